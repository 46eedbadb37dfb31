"""Fixtures of the mining tests: tiny ONNX models, made once, and generated data."""

from __future__ import annotations

import pytest
import tiny_onnx
from mining_data import write_collection, write_records


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory):
    return tiny_onnx.write_cross_encoder(tmp_path_factory.mktemp("onnx") / "counting")


@pytest.fixture(scope="session")
def noisy_cross_encoder(tmp_path_factory):
    return tiny_onnx.write_cross_encoder(tmp_path_factory.mktemp("onnx") / "noisy", batch_noise=0.01)


@pytest.fixture(scope="session")
def token_states(tmp_path_factory):
    return tiny_onnx.write_token_states(tmp_path_factory.mktemp("onnx") / "states")


@pytest.fixture
def collection(tmp_path):
    return write_collection(tmp_path / "made")


@pytest.fixture
def records(tmp_path):
    return write_records(tmp_path / "records.jsonl")
