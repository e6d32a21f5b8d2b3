"""Data sets: readers of published formats, the data set folder, splits and batches."""
