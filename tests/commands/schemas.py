"""The schemas of docs/schemas: validation as strict as our own tests want it, and what a change of them would break."""

import copy
import json
import pathlib
import subprocess
import tempfile

import jsonschema
from google.protobuf import descriptor_pb2

SCHEMAS = pathlib.Path(__file__).resolve().parents[2] / "docs/schemas"
READ = ("event",)  # by freshet; its schema may widen
WRITTEN = ("recommendation", "dead-letter", "item")  # by freshet; their schemas may narrow, and gain fields


def schema(kind, directory=SCHEMAS):
    return json.loads((directory / f"{kind}.schema.json").read_text())


def golden(name, directory=SCHEMAS):
    return [json.loads(line) for line in (directory / "golden" / f"{name}.jsonl").read_text().splitlines()]


def closed(node):
    """The same, without room for a field that it does not name: what is written must be in the documents."""
    node = copy.deepcopy(node)
    for part in nodes(node):
        if "properties" in part:
            part["additionalProperties"] = False
    return node


def nodes(node):
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from nodes(part)


def validator(schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def complaints(record, schema):
    return [f"{'/'.join(map(str, error.path))}: {error.message}" for error in validator(schema).iter_errors(record)]


def fields(node, root, path=""):
    """path -> (types, names that an object requires) of a field and all below it."""
    if "$ref" in node:
        node = {**node, **root["$defs"][node["$ref"].removeprefix("#/$defs/")]}
    types = node.get("type", [])
    types = set([types] if isinstance(types, str) else types)
    for choice in node.get("anyOf", ()):
        types |= fields(choice, root)[""][0]
    if "number" in types:
        types.add("integer")
    found = {path: (types, set(node.get("required", ())))}
    for name, below in node.get("properties", {}).items():
        found.update(fields(below, root, f"{path}/{name}"))
    if "items" in node:
        found.update(fields(node["items"], root, f"{path}[]"))
    return found


def breaks(kind, old, new):
    """What a program that was written to `old` meets under `new`: a line for each field that is not as it relies on."""
    found = []
    before, after = fields(old, old), fields(new, new)
    for path, (types, required) in before.items():
        if path not in after:
            found.append(f"{path}: gone")
            continue
        new_types, new_required = after[path]
        if kind in READ:
            lost, what = types - new_types, "is refused"
            required, new_required = new_required, required
        else:
            lost, what = new_types - types, "is new"
        found += [f"{path}: type {name} {what}" for name in sorted(lost)]
        found += [f"{path}/{name}: required in one only" for name in sorted(required - new_required)]
    return found


def messages(kind, directory=SCHEMAS):
    """Full name -> field number -> what a reader relies on, of the messages of a .proto file."""
    with tempfile.NamedTemporaryFile() as out:
        command = ["protoc", f"-I{directory}", f"--descriptor_set_out={out.name}", f"{kind}.proto"]
        subprocess.run(command, check=True)
        (file,) = descriptor_pb2.FileDescriptorSet.FromString(out.read()).file
    found = {}

    def take(prefix, message):
        name = f"{prefix}.{message.name}"
        found[name] = {
            field.number: (field.name, field.Type.Name(field.type), field.Label.Name(field.label), field.type_name)
            for field in message.field
        }
        for nested in message.nested_type:
            take(name, nested)

    for message in file.message_type:
        take(file.package, message)
    return found


def message_breaks(old, new):
    """Likewise, of messages: fields may be added, and that is all."""
    return [
        f"{name}, field {number}: {' '.join(field)}: {' '.join(new[name][number]) if number in new.get(name, {}) else 'gone'}"
        for name, fields in old.items()
        for number, field in fields.items()
        if new.get(name, {}).get(number) != field
    ]
