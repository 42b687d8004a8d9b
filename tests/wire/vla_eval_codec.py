"""Run where vla-eval is installed: packs the samples into FOLDER as vla-eval does, and reads what we packed there."""

import sys
from pathlib import Path

from samples import images, same, samples, smooth
from vla_eval.protocol.messages import Message, MessageType, pack_message, unpack_message
from vla_eval.protocol.numpy_codec import set_image_format


def main():
    folder = Path(sys.argv[1])
    set_image_format("png")
    (folder / "theirs-plain").write_bytes(pack_message(Message(MessageType.OBSERVATION, samples(), 7, 1.5)))
    for form, payload in (("png", images()), ("raw", images()), ("jpeg", {"smooth": smooth()})):
        set_image_format(form)
        (folder / f"theirs-{form}").write_bytes(pack_message(Message(MessageType.OBSERVATION, payload, 8, 2.5)))
    for name, payload in (("ours-plain", samples()), ("ours-images", images())):
        message = unpack_message((folder / name).read_bytes())
        assert message.type is MessageType.OBSERVATION and message.seq == 9 and message.timestamp == 3.5
        assert same(message.payload, payload), name
    print("read")


main()
