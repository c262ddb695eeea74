"""Reads a whole stream by a CBOR decoder that is not ours, and lists what is in it."""

import io
import json
import sys
import zlib

import cbor2
import jsonschema

KINDS = dict(enumerate("hello schema manifest verdict pages disk switch device finish index ram "
                       "checksums pad note abort request tail".split(), 1))


def projection(value):
    if isinstance(value, list):
        return [projection(item) for item in value]
    if isinstance(value, dict):
        return {key: projection(item) for key, item in value.items()}
    return value.hex() if isinstance(value, bytes) else value


def fields(path, schema, value):
    schema = schema.get("anyOf", [schema])[0]
    if value is not None and "properties" in schema:
        for name, field in schema["properties"].items():
            fields(f"{path} {name}", field, value.get(name, field.get("default")))
    elif value and "properties" in schema.get("items", {}):
        for number, item in enumerate(value):
            fields(f"{path} {number}", schema["items"], item)
    else:
        print(path, json.dumps(value))


schemas, stream = {}, io.BytesIO(sys.stdin.buffer.read())
while stream.tell() < stream.getbuffer().nbytes:
    frame = cbor2.load(stream)
    frame = frame.value if isinstance(frame, cbor2.CBORTag) else frame
    number, flags, channel, sequence, epoch, length, crc, header_crc, payload = frame
    print(sequence, KINDS[number], length)
    if KINDS[number] == "pad":
        continue
    message = cbor2.loads(zlib.decompress(payload) if flags & 4 else payload)
    if KINDS[number] == "schema":
        document = projection(message["schema"])
        jsonschema.Draft202012Validator.check_schema(document)
        schemas[message["id"]] = jsonschema.Draft202012Validator(document)
    for record in message if KINDS[number] == "device" else []:
        schemas[record["schema"]].validate(projection(record["state"]))
        fields(record["path"], schemas[record["schema"]].schema, projection(record["state"]))
