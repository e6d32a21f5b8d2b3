"""Text vectors: content texts, the encoder, the embedding table."""
