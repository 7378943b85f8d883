"""The Universal Speech Model's encoder: mel frames, two convolutions, conformer blocks; exact in padded batches.

The parameters carry the names that transformers gives them; `state` puts a checkpoint's tensors in their places, none
left over and none copied. What differs from transformers is the treatment of padding: frames beyond the clip are zero
before each of the two convolutions, as the zeros are that transformers appends to a clip alone, and are no keys of the
attention; all the rest looks back only. A clip in a batch then gets the result of the clip alone (reference:
transformers.models.gemma3n.modeling_gemma3n, `Gemma3nAudioEncoder`).
"""
