"""The multi-encoder vision-language model: connectors, masking, language model."""
