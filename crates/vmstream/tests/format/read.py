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
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [projection(item) for item in value]
    if isinstance(value, dict):
        return {key: projection(item) for key, item in value.items()}
    return value


schemas, stream = {}, io.BytesIO(sys.stdin.buffer.read())
end = stream.getbuffer().nbytes
while stream.tell() < end:
    frame = cbor2.load(stream)
    if isinstance(frame, cbor2.CBORTag):
        assert frame.tag == 55799
        frame = frame.value
    number, flags, channel, sequence, epoch, length, crc, header_crc, payload = frame
    kind = KINDS[number]
    print(sequence, kind, length)
    if kind == "pad":
        continue
    message = cbor2.loads(zlib.decompress(payload) if flags & 4 else payload)
    if kind == "schema":
        document = projection(message["schema"])
        jsonschema.Draft202012Validator.check_schema(document)
        schemas[message["id"]] = jsonschema.Draft202012Validator(document)
    for record in message if kind == "device" else []:
        state = projection(record["state"])
        schemas[record["schema"]].validate(state)
        for name, field in schemas[record["schema"]].schema["properties"].items():
            value = state.get(name, field.get("default"))
            print(record["path"], name, json.dumps(value, sort_keys=True))
