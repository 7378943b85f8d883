"""A transformer over patches of a log mel spectrogram, with a class token and a distillation token before them.

The parameters carry the names that transformers gives them. Every clip is padded to the longest, so that nothing
depends on its neighbours; the variant `cropped` computes the patches that a clip has frames for, and masks those that
only a longer neighbour has (reference:
transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer).
"""
