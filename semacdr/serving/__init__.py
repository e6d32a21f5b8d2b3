"""Using a trained run: recommendations for users, histories and new items."""
