"""Requests to answers to scores; prompts and metrics are lmms-eval's."""
