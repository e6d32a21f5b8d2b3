"""The ways in which an answer can fail, each with its name: what is counted, and what a retry is told."""

from __future__ import annotations

VALID = "valid"
FAILED = "failed"
KINDS = (
    "refused",  # the prompt is longer than the model reads
    FAILED,  # the engine gave up on this request, for the reason that stands in the text
    "unfinished",  # cut at max_new_tokens, or in the middle of a field at the schema's maxLength
    "unparseable",  # not a JSON object
    "wrong_shape",  # JSON, but not of the schema
    "empty",  # no word in it
    "too_short",  # fewer words than min_words
    "too_long",  # more words than max_words
    "wrong_language",  # another script or language than the prompt asks for
    "repetition",  # a phrase comes twice, or a word again and again
    "domain_word",  # a word of the domain in a domain-agnostic text
    "title_word",  # a word of the title in a domain-agnostic text
    "copied_example",  # a long run of words from an example of the prompt
    "near_example",  # most of what it says is what an example says, in another order
    "off_task",  # repeats its instructions, holds signs of JSON, or speaks as an assistant does
)
ENGINE_KINDS = ("refused", FAILED)
"""What the engine did; nothing that the model could do better when told."""
