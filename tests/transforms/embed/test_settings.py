"""The parameters of an embedding step: DataWorks' own, with its defaults, checked before a run."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
from pydantic import ValidationError

from vecferry.transforms.embed import EmbedSettings

COLUMNS = {"sourceColumnNames": ["text"], "embeddingColumnName": "vector"}
STUDIO = {"modelProvider": "bailian", "modelName": "text-embedding-v4", "apiKey": "sk-secret-1"}


def _settings(**more):
    return EmbedSettings(**({"embeddingColumns": COLUMNS} | more))


def test_the_defaults_are_dataworks_own():
    """What a job does not say is as the vendor has it."""
    settings = _settings(**STUDIO)
    assert settings.batch_size == 10
    assert settings.dimension == 1024
    assert settings.append_delimiter == "\n"
    assert settings.skip_empty_value is False
    assert settings.null_as_empty_string is False
    assert settings.append_field_name_enable is False
    assert (
        settings.endpoint_spec.url == "https://dashscope.aliyuncs.com/compatible-mode/v1/embeddings"
    )
    assert settings.cache_bytes == 64 << 20
    assert settings.timeout_seconds == 30


def test_local_has_defaults_of_its_own():
    """No key, no endpoint, no model's name; the size of its model."""
    settings = _settings(modelProvider="local")
    assert (settings.dimension, settings.batch_size, settings.endpoint_spec.url) == (256, 64, None)
    assert _settings(modelProvider="local", dimension="128", batchSize="10").batch_size == 10


def test_numbers_may_be_strings():
    """As DataWorks writes them."""
    settings = _settings(**STUDIO, dimension="128", batchSize="8")
    assert (settings.dimension, settings.batch_size) == (128, 8)


def test_columns_in_and_out_are_told():
    """One object or a list; each source column once."""
    settings = _settings(
        **STUDIO,
        embeddingColumns=[
            {"sourceColumnNames": ["a", "b"], "embeddingColumnName": "v"},
            {"sourceColumnNames": "b", "embeddingColumnName": "w"},
        ],
    )
    assert settings.inputs() == ["a", "b"]
    assert settings.outputs() == {"v": 1024, "w": 1024}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"modelProvider": "bailain"}, "did you mean 'bailian'"),
        ({"modelName": None}, "modelName is missing"),
        ({"apiKey": None}, "apiKey is missing"),
        (
            {"apiKey": None, "modelProvider": "openai", "modelName": "m"},
            "apiKey is missing: openai",
        ),
        ({"modelProvider": "paiModelGallery", "modelName": "bge-m3"}, "endpoint is missing"),
        ({"modelProvider": "dataworksModelService"}, "endpoint is missing"),
        ({"endpoint": "dashscope.aliyuncs.com"}, "is not a URL"),
        ({"endpoint": "https://u:p@h/v1"}, "apiKey instead"),
        ({"dimension": 0}, "use 1 or more"),
        ({"dimension": "1000"}, "dimension 1000 is not one .* 2048, 1536, 1024"),
        ({"modelName": "text-embedding-v3", "dimension": 2048}, "use 1024, 768"),
        ({"modelProvider": "local", "modelName": None, "dimension": 1024}, "256, 128, 64"),
        ({"batchSize": 0}, "greater than or equal to 1"),
        ({"batchSize": 11}, "batchSize 11 is more than the 10 inputs .* use batchSize <= 10"),
        ({"appendFieldNameEnable": True}, "appendFieldNameDelimiter"),
        ({"embeddingColumns": []}, "at least 1"),
        ({"embeddingColumns": [COLUMNS, COLUMNS]}, "stands 2 times"),
        (
            {"embeddingColumns": {"sourceColumnNames": ["a"], "embeddingColumnName": "a"}},
            "also a source column",
        ),
        ({"embeddingColumns": {"sourceColumnNames": [], "embeddingColumnName": "v"}}, "least 1"),
    ],
    ids=lambda v: str(v)[:60],
)
def test_a_wrong_value_says_the_rule_and_the_way_out(given, message):
    """Value, rule, repair; and never the key."""
    with pytest.raises(ValidationError) as failure:
        _settings(**(STUDIO | given))
    (text,) = [e["msg"] for e in failure.value.errors()]
    import re

    assert re.search(message, text)
    assert "sk-secret-1" not in text


@pytest.mark.parametrize("base", ["http://h/v1", "http://h/v1/", "http://h/v1/embeddings"])
def test_the_endpoint_is_a_base_url(base):
    """`/embeddings` is appended unless it is there."""
    assert _settings(**STUDIO, endpoint=base).endpoint_spec.url == "http://h/v1/embeddings"


def test_known_models_decide_whether_a_dimension_is_asked_for():
    """Models of one size are not asked; unknown ones are, unless the job says otherwise."""
    asks = {
        name: _settings(
            **(STUDIO | {"modelName": name, "dimension": size})
        ).endpoint_spec.asks_dimension
        for name, size in [("text-embedding-v4", 64), ("text-embedding-v2", 1536), ("mine", 7)]
    }
    assert asks == {"text-embedding-v4": True, "text-embedding-v2": False, "mine": True}
    assert not _settings(**STUDIO, sendDimension=False).endpoint_spec.asks_dimension


def test_the_key_is_not_shown_and_survives_pickling():
    """It travels to workers, not to logs."""
    settings = _settings(**STUDIO)
    assert "sk-secret-1" not in f"{settings} {settings!r} {settings.model_dump_json()}"
    assert pickle.loads(pickle.dumps(settings)).api_key.reveal() == "sk-secret-1"


@pytest.mark.slow
def test_importing_the_settings_loads_nothing_heavy():
    """`vecferry check` stays quick: no Beam, no numpy, no HTTP client."""
    code = (
        "import sys, vecferry.transforms.embed.settings\n"
        "print([m for m in ('apache_beam', 'numpy', 'urllib3', 'wordllama') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("http://h:99999/v1", "is not a URL"),
        ("http://h:x/v1", "is not a URL"),
        ("http://[::1/v1", "is not a URL"),
        ("http://h/a b/v1", "holds ' '"),
        ("http://h/v1\r\nX-More: 1", "holds"),
        ("http://é.example/v1", "xn--"),
        ("http://bad.example\\.good.example/v1", "holds"),
        ("http://h/v1?a=1&a=2", "without a query"),
        ("http://h/v1?a=1#b", "without a query"),
        ("http://h/v1?apikey=word", "without a query"),
        ("http://h/v1?word", "without a query"),
        ("http://h:99999/v1#word", "not a URL"),
        ("http://me:pass/word@h/v1", "put the key into apiKey"),
    ],
)
def test_an_endpoint_that_no_request_can_go_to_is_refused_beforehand(endpoint, says):
    """Else each request would fail alike, and be tried again for ten minutes."""
    with pytest.raises(ValidationError, match=says) as caught:
        _settings(modelProvider="openai", modelName="m", endpoint=endpoint)
    assert "word" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize("key", ["sk-hidden\n", "sk-hidden\r\nX-More: 1", "sk-hiddenж"])
def test_a_key_that_no_header_can_hold_is_refused_beforehand(key):
    """Without being shown."""
    with pytest.raises(ValidationError, match="apiKey holds a line break") as caught:
        _settings(**(STUDIO | {"apiKey": key}))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("name", ["a b", "../other", "a?b", "a\nb"])
def test_a_service_id_stays_in_its_place_in_the_url(name):
    """It is a part of the path of AI Search's URLs."""
    with pytest.raises(ValidationError, match="service id"):
        _settings(modelProvider="aiSearch", modelName=name, apiKey="k", endpoint="http://h")
