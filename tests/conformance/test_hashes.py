import base64

import pytest
from vectors import by_id, load

from sfumato.engine.checkpoint.hashes import NETWORK_SHORT, legacy_hash, network_hash, sha256, short_hash

_, CASES = load("hashes")


def write(case, path):
    if "file_base64" in case:
        path.write_bytes(base64.b64decode(case["file_base64"]))
    elif case["length"] is not None:
        a, b = case["a"], case["b"]
        period = bytes((a * i + b) % 256 for i in range(256))
        path.write_bytes((period * (case["length"] // 256 + 1))[: case["length"]])
    return path


@pytest.mark.parametrize("case", by_id(CASES))
def test_hash(case, tmp_path):
    path = write(case, tmp_path / "file")
    match case["kind"]:
        case "model_hash_short_old":
            assert legacy_hash(path) == case["expected"]
        case "sha256":
            assert sha256(path) == case["expected"]
            assert short_hash(path) == case["model_hash"]
        case "network_hash":
            assert network_hash(path) == case["expected"]
            assert network_hash(path)[:NETWORK_SHORT] == case["short"]
        case other:
            pytest.fail(f"unknown kind {other}")
