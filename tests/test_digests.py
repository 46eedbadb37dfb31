from gliclass_rerank.files import digests


def test_of_a_large_file_blocks_from_end_to_end_count_or_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "_WHOLE_FILE", 1000)
    monkeypatch.setattr(digests, "_BLOCK", 10)
    path = tmp_path / "model.safetensors"

    def digest(changed_at, *, is_sampled=True):
        raw = bytearray(100_000)
        raw[changed_at] = 1
        path.write_bytes(raw)
        return digests.folder_digest(tmp_path, is_sampled=is_sampled)

    assert len({digest(at) for at in (0, 9, 99_990 * 31 // 63, 99_990, 99_999)}) == 5
    assert digest(500) == digest(501)  # between two blocks
    assert digest(500, is_sampled=False) != digest(501, is_sampled=False)
