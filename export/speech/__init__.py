"""Convolutions over the waveform and a transformer over their frames, exact in padded batches.

The parameters carry the names that transformers gives them; `state` puts a checkpoint's tensors in their places, none
left over. What differs from transformers is the treatment of padding: group norm takes its statistics over valid frames
only, padded frames are zero before the positional convolution, padded keys are masked. A clip in a batch then gets the
result of the clip alone (reference: transformers.models.hubert.modeling_hubert).
"""
