"""Programs in C that check and measure a generated library, and the machines they run on."""
