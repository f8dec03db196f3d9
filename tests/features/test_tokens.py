"""Fast tokens are open_clip's tokens, for every text; other tokenizers are called as they are."""

import string

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from xhash_ray.features import tokens as module
from xhash_ray.features.tokens import Tokens

ORACLE = open_clip.get_tokenizer("ViT-B-32")
TEXTS = [
    "",
    " ",
    "&nbsp;",
    "\x1b[0m",
    "a photo of a cat",
    "Two  CATS,\tand\na dog's don't I'm we'll they've he'd",
    "&lt;b&gt; &amp;amp; AT&T < > <b>&lt;</b>",
    "<start_of_text> a <END_OF_TEXT>b<end_of_text>",
    "Größe ﬁne ｆｕｌｌ “quotes” schÃ¶n âœ” 日本語 👩‍👩‍👧 é e\u0301",
    "3 1/2 x 100mm #tag @home http://a.b/c?d=e_f",
    "word " * 200,
    "x" * 500,
    "\u200b\u00a0\u3000 between \u2028 spaces \x85 here \x1c there",
    "null \0 and bell \a",
    "\ud800 alone",
    "it''s ''re '' ' 'S'T'RE",
    # Whose repair looks across words, or makes one of two:
    "voilÃ  le travail",
    "voil&Atilde; le travail",
    "one\x1cword, and an\x0bother",
]
WORDS = st.sampled_from(
    [
        *"'&<>;_-",
        "'s",
        "&amp;",
        "&Atilde;",
        "Ã",
        "\x1c",
        "&#39;",
        "<",
        "é",
        "don't",
        "CAT",
        "3d",
        "\n",
        "\u2028",
        "<end_of_text>",
    ]
)


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens(open_clip.get_tokenizer("ViT-B-32"))


def assert_same(tokens: Tokens, oracle: SimpleTokenizer, texts: list[str]) -> None:
    found, wanted = tokens(texts), oracle(texts).numpy()
    assert found.dtype == np.int32
    assert np.array_equal(found, wanted), [
        text for text, ours, theirs in zip(texts, found, wanted, strict=True) if not np.array_equal(ours, theirs)
    ]


def test_every_kind_of_text(tokens):
    for _ in range(2):  # the second time from memory
        assert_same(tokens, ORACLE, TEXTS)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.text(), st.text(string.printable), st.text(string.ascii_letters + " '&_-.,")), max_size=5))
def test_any_text(tokens, texts):
    assert_same(tokens, ORACLE, texts)


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, max_size=30).flatmap(lambda words: st.sampled_from(["".join(words), " ".join(words)])))
def test_any_order_of_what_is_special(tokens, text):
    assert_same(tokens, ORACLE, [text])


@pytest.mark.parametrize("clean", ["lower", "canonicalize", "whitespace"])
@pytest.mark.parametrize("context", [4, 8, 77])
def test_any_cleaning_and_length(clean, context):
    made = [SimpleTokenizer(context_length=context, clean=clean) for _ in range(2)]
    assert_same(Tokens(made[0]), made[1], TEXTS)


def test_clean_captions_pass_by_what_is_slow(monkeypatch, tokens):
    tokens(["warm these words up"])

    def refuse(text):
        raise AssertionError(text)

    monkeypatch.setattr(tokens.tokenizer, "encode", refuse)
    assert tokens(["these warm words up up"])[0, :7].tolist() == ORACLE(["these warm words up up"])[0, :7].tolist()
    with pytest.raises(AssertionError, match="thesé"):
        tokens(["thesé"])


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "WORDS_KEPT", 50)
    tokens = Tokens(open_clip.get_tokenizer("ViT-B-32"))
    texts = [
        f"{letter}{other}zq &" if other < "n" else f"{letter}{other}zq" for letter in "abcdefgh" for other in "abcxyz"
    ]
    for _ in range(3):
        assert_same(tokens, ORACLE, texts)
        assert len(tokens.words) <= 50
        assert len(tokens.tokenizer.cache) <= 50
    assert tokens.remembered.cache_info().maxsize == module.CAPTIONS_KEPT
    tokens(["long " * 300])
    assert tokens.remembered.cache_info().currsize == len(texts)


def test_arrays_are_the_callers_own(tokens):
    first = tokens(["a cat"])
    first[:] = 7
    assert_same(tokens, ORACLE, ["a cat"])


class Foreign:
    """A tokenizer of another kind."""

    context_length = 5

    def __call__(self, texts):
        assert isinstance(texts, list)
        return torch.tensor([[len(text)] * 5 for text in texts])


@pytest.mark.parametrize(
    "tokenizer",
    [
        Foreign(),
        SimpleTokenizer(context_length=9, reduction_mask="simple"),
        SimpleTokenizer(additional_special_tokens=["a b"]),
    ],
)
def test_others_are_called_as_they_are(tokenizer):
    tokens = Tokens(tokenizer)
    found = tokens(("a b c", "four"))
    assert found.dtype == np.int32
    assert np.array_equal(found, tokenizer(["a b c", "four"]).numpy())
    assert tokens([]).shape == (0, tokenizer.context_length)


def test_no_text_at_all(tokens):
    assert tokens([]).shape == (0, 77)
    assert tokens([]).dtype == np.int32
