"""The version of Portico: the one place where it stands. The build reads it from here, and so does everything else."""

from __future__ import annotations

__version__ = "0.1.0"
