"""What is trained: datasets, preprocessing, models, training and decoding."""
