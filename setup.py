"""The figures' scripts, which the workflow runs as notebooks, come along in a wheel as package data."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithScripts(build_py):
    """Copy workflow/scripts beside the code that runs them (encoder_roles.paper.draw)."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # a checkout has the scripts themselves
            folder = Path(self.build_lib, "encoder_roles", "paper", "scripts")
            self.mkpath(str(folder))
            for script in sorted(Path("workflow", "scripts").glob("draw_*.py")):
                self.copy_file(str(script), str(folder / script.name))


setup(cmdclass={"build_py": BuildWithScripts})
