"""Item descriptions by a language model: prompts, engines, the answer store, validation."""
