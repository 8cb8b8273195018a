"""Signatures of Ed25519: the vectors of RFC 8032, and agreement with the library that the site signs with."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ingest.agent.ed25519 import decode_key, verify

VECTORS = [  # RFC 8032, 7.1: public key, message, signature
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_signatures_of_the_standard_are_valid(key: str, message: str, signature: str) -> None:
    public, text, signed = bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)
    assert verify(public, text, signed)
    assert not verify(public, text + b"x", signed)
    assert not verify(bytes.fromhex(VECTORS[0][0] if key != VECTORS[0][0] else VECTORS[1][0]), text, signed)


@pytest.mark.slow
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 511))
def test_signature_is_valid_until_a_bit_of_it_changes(seed: bytes, message: bytes, bit: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert verify(public, message, signature)
    changed = bytearray(signature)
    changed[bit // 8] ^= 1 << bit % 8
    assert not verify(public, message, bytes(changed))


@given(st.binary(max_size=40), st.binary(max_size=10), st.binary(max_size=70))
def test_random_bytes_are_no_signature(key: bytes, message: bytes, signature: bytes) -> None:
    assert not verify(key, message, signature)


@pytest.mark.parametrize("text", ["", "x", "AAAA", "é" * 44, base64.b64encode(b"\xff" * 32).decode()])
def test_text_that_is_no_public_key_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="public key"):
        decode_key(text)
