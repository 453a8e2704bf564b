"""The two labels that are not words, as they stand in model files and as names of data folders."""

from __future__ import annotations

SILENCE = "_silence_"
"""Nobody speaks: silence or background noise."""
UNKNOWN = "_unknown_"
"""Speech that is none of the keywords."""
