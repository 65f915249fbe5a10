"""`millrace schema` in the hands of a validator, as editors have one: what lint accepts it accepts, and a key that nobody knows it does not."""
import copy
import json
import pathlib
import re
import subprocess

import jsonschema
import pytest
from conftest import BINARY
from ruamel.yaml import YAML

ROOT = pathlib.Path(__file__).parents[2]
BLOCK = re.compile(r"(?ms)^```yaml\n(.*?)^```")


def topologies():
    for file in sorted(ROOT.glob("topologies/*/topology.yaml")):
        yield file.parent.name, file.read_text(), file.parent
    for page in sorted((ROOT / "docs/src").rglob("*.md")):
        for i, text in enumerate(BLOCK.findall(page.read_text())):
            if re.search(r"(?m)^streams:", text):
                yield f"{page.stem} {i}", text, ROOT


@pytest.fixture(scope="module")
def schema():
    schema = json.loads(subprocess.run([str(BINARY), "schema"], capture_output=True, text=True, check=True).stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def is_right(text, folder):
    return subprocess.run([str(BINARY), "lint", "-"], input=text, text=True, capture_output=True, cwd=folder).returncode == 0


def test_what_lint_accepts_the_schema_accepts(schema):
    seen = 0
    for name, text, folder in topologies():
        # A schema cannot know that a key is there by `defaults`.
        if re.search(r"(?m)^(defaults|include):", text) or not is_right(text, folder):
            continue
        seen += 1
        topology = YAML(typ="safe").load(text)
        faults = [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in schema.iter_errors(topology)]
        assert faults == [], f"{name}\n{text}"
        for path in (["run_env"], ["streams", next(iter(topology["streams"]))], ["sink", 0], []):
            wrong = at = copy.deepcopy(topology)
            for step in path:
                at = at.setdefault(step, {}) if isinstance(step, str) else at[step]
            if isinstance(at, dict) and "fragment" not in at:
                at["no_such_key"] = 1
                assert not schema.is_valid(wrong), f"{name}: {path} takes any key"
    assert seen > 40


def test_a_variable_stands_for_a_number_and_no_other_text_does(schema):
    topology = YAML(typ="safe").load((ROOT / "topologies/quickstart/topology.yaml").read_text())
    for value, right in (("${WORKERS:-1}", True), (2, True), (None, True), ("two", False)):
        topology["run_env"] = {"parallelism": value}
        assert schema.is_valid(topology) == right, value
