"""Generated speech (espeak-ng): keywords, similar-sounding words, sentences, rooms."""
