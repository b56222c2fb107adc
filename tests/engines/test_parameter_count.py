"""The number of parameters of a model, loaded or not."""

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, Qwen2Config, ViTConfig

from gsi.engines.hugging_face.parameter_count import count_parameters, count_parameters_without_weights

HIDDEN, VOCABULARY = 32, 100


def config(**changes: object) -> Qwen2Config:
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 64}
    return Qwen2Config(hidden_size=HIDDEN, vocab_size=VOCABULARY, **sizes, **changes)


def test_an_embedding_that_is_the_last_layer_too_counts_once() -> None:
    """A forward pass reads it twice, but it is stored once."""
    tied, untied = (
        count_parameters(AutoModelForCausalLM.from_config(config(tie_word_embeddings=is_tied)))
        for is_tied in (True, False)
    )
    assert untied - tied == HIDDEN * VOCABULARY


def test_a_model_is_counted_without_its_memory() -> None:
    """The configuration gives the same number; the large model would need some 300 GB."""
    small = config(tie_word_embeddings=True)
    made = count_parameters(AutoModelForCausalLM.from_config(small))
    assert count_parameters_without_weights(lambda: AutoModelForCausalLM.from_config(small)) == made
    large = Qwen2Config(hidden_size=8192, intermediate_size=29_568, num_hidden_layers=100, tie_word_embeddings=False)
    counted = count_parameters_without_weights(lambda: AutoModelForSequenceClassification.from_config(large))
    assert counted is not None
    assert counted > 80e9


def test_what_transformers_has_no_class_for_is_not_counted() -> None:
    """There is no language model for the configuration of an image model."""
    assert count_parameters_without_weights(lambda: AutoModelForCausalLM.from_config(ViTConfig())) is None
