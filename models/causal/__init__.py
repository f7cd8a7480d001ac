"""Effects of a treatment that nobody drew at random: one matter a file, arrays in, numbers out."""
