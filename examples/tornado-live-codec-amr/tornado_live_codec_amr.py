"""AMR narrow-band as telephones record it (RFC 4867, section 5), for tornado-live."""

import av

from tornado_live import hookimpl
from tornado_live.audio import Codec, StreamInfo, begins_with
from tornado_live.errors import AudioMalformed

MAGIC = b"#!AMR\n"
FRAME_BYTES = (13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1)
"""Of 20 ms, by the frame type in bits 3 to 6 of its first byte."""


class AmrDecoder:
    info = StreamInfo("amr", "amrnb", 8_000, 1)
    init_segment = MAGIC

    def __init__(self):
        self.rest = b""
        self.begun = False
        self.context = av.CodecContext.create("amrnb", "r")
        self.context.sample_rate, self.context.layout = 8_000, "mono"
        self.resampler = av.AudioResampler("s16", "mono", 16_000)

    def decode(self, data):
        self.rest += data
        pos, pcm = 0, []
        if not self.begun and len(self.rest) >= len(MAGIC):
            if not self.rest.startswith(MAGIC):
                raise AudioMalformed("The AMR header is damaged.")
            self.begun, pos = True, len(MAGIC)
        while self.begun and pos < len(self.rest):
            end = pos + FRAME_BYTES[self.rest[pos] >> 3 & 15]
            if end > len(self.rest):
                break
            try:
                frames = self.context.decode(av.Packet(self.rest[pos:end]))
            except av.FFmpegError as exc:
                raise AudioMalformed("An AMR frame is damaged.") from exc
            pcm += [self.pcm(frame) for frame in frames]
            pos = end
        self.rest = self.rest[pos:]
        return b"".join(pcm)

    def flush(self):
        return self.pcm(None)

    def pcm(self, frame):
        return b"".join(bytes(out.planes[0])[: 2 * out.samples] for out in self.resampler.resample(frame))


@hookimpl
def tornado_live_codecs():
    return [Codec("amr", "AMR narrow-band", ("audio/amr",), begins_with(MAGIC), lambda *_: AmrDecoder())]
