"""What a person should know of data before anything is trained on it: columns, relations, images, texts, drift."""
