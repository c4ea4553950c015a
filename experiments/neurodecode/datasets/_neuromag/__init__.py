"""Parts of the reader of 306-channel Neuromag recordings."""
