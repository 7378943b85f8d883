"""Convolutions over the waveform and a transformer over their frames, exact in padded batches.

One body for HuBERT, wav2vec 2.0 and SEW, whose families say what each has of its own. The parameters carry the names
that transformers gives them; `state` puts a checkpoint's tensors in their places, none left over. What differs from
transformers is the treatment of padding: group norm takes its statistics over valid frames only, padded frames are zero
before every convolution that looks across frames, padded keys are masked, and a group of frames counts if all of it is
valid. A clip in a batch then gets the result of the clip alone (reference: `modeling_hubert`, `modeling_wav2vec2` and
`modeling_sew` of transformers).
"""
