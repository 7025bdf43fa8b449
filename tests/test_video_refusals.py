"""Sources that are no video, and files that try to reach others: one clear line each."""

import os
import struct
import wave

import av
import numpy as np
import pytest
from video_files import number_of, numbered, write_video
from vilamp.errors import VideoError
from vilamp.video import open_video
from vilamp.video.container import MAX_PIXELS


def refusal(source, **settings) -> str:
    """The message of the error that opening gives, which must be a single line."""
    with pytest.raises(VideoError) as caught:
        open_video(source, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_file(tmp_path):
    assert "missing.mp4: wanted a video file, found none" in refusal(tmp_path / "missing.mp4")


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + ".png", "a/" * 3000, "a\0b", "a\0b.png"])
def test_a_name_that_no_file_can_have(tmp_path, name):
    assert "wanted a video file, found none" in refusal(tmp_path / name)


def test_empty_file(tmp_path):
    path = tmp_path / "empty.mp4"
    path.touch()
    assert "empty.mp4: wanted a video, the file is empty" in refusal(path)


@pytest.mark.parametrize("name", ["notes.txt", "notes.mp4", "notes.mkv", "notes.h264"])
def test_text_file(tmp_path, name):
    path = tmp_path / name
    path.write_text("not a video\n" * 500)
    assert f"{name}: wanted a" in refusal(path)


@pytest.mark.parametrize("name", ["noise.mp4", "noise.ts", "noise"])
def test_noise(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(np.random.default_rng(0).bytes(20_000))
    assert f"{name}: wanted" in refusal(path)


def test_audio_only(tmp_path):
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    assert "sound.wav: wanted a video" in refusal(path)


def write_streams(path, *, sizes=(), sound=True, cover=None):
    """A file with a video stream per size (pictures 100 i + n), sound, and cover art."""
    with av.open(str(path), "w") as container:
        videos = []
        for width, height in sizes:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            videos.append(stream)
        audio = container.add_stream("aac", rate=16000) if sound else None
        picture = None
        if cover is not None:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = *cover, "yuvj420p"
            picture.disposition = 0x400
        for i, stream in enumerate(videos):
            for n in range(50):
                image = numbered(100 * i + n, stream.width, stream.height)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
            container.mux(stream.encode())
        if picture is not None:
            image = numbered(255, *cover)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(image)))
            container.mux(picture.encode())
        if audio is not None:
            for n in range(30):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                frame.sample_rate, frame.pts = 16000, 1024 * n
                container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


def test_sound_without_a_picture_in_a_video_container(tmp_path):
    path = write_streams(tmp_path / "sound.mp4")
    message = refusal(path)
    assert message.endswith("sound.mp4: wanted a video stream, the file holds audio (stream 0)")


def test_cover_art_is_no_video(tmp_path):
    path = write_streams(tmp_path / "song.mp4", cover=(320, 240))
    with av.open(str(path)) as container:
        assert [s.type for s in container.streams] == ["audio", "video"]
    assert refusal(path).endswith(
        "wanted a video stream, the file holds audio (stream 0), video (stream 1)"
    )


def test_cover_art_beside_the_video(tmp_path):
    path = write_streams(tmp_path / "film.mp4", sizes=[(64, 48)], cover=(320, 240))
    source = open_video(path)
    assert (source.info.width, source.info.height) == (64, 48)
    assert [number_of(frame.image) for frame in source] == [0, 25]


def test_several_video_streams(tmp_path):
    path = write_streams(tmp_path / "two.mkv", sizes=[(64, 48), (128, 96)])
    with av.open(str(path)) as container:
        best = container.streams.best("video").index
    assert open_video(path).info.stream == best
    first, second = open_video(path, stream=0), open_video(path, stream=1)
    assert (first.info.width, second.info.width) == (64, 128)
    assert [number_of(frame.image) for frame in first] == [0, 25]
    assert [number_of(frame.image) for frame in second] == [100, 125]
    assert second.info.stream == 1
    assert first.fingerprint() != second.fingerprint()
    assert refusal(path, stream=2).endswith(
        "wanted video stream 2, the file holds video (stream 0), video (stream 1), audio (stream 2)"
    )
    assert "wanted video stream 7" in refusal(path, stream=7)


def test_default_stream_goes_before_the_others(tmp_path):
    path = tmp_path / "marked.mkv"
    with av.open(str(path), "w") as container:
        streams = []
        for width, disposition in ((128, 0), (64, 1)):
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
            stream.disposition = disposition
            streams.append(stream)
        for stream in streams:
            for n in range(30):
                frame = av.VideoFrame.from_ndarray(numbered(n, stream.width, 48))
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    assert open_video(path).info.width == 64


def test_no_frames(tmp_path):
    path = tmp_path / "none.mp4"
    with av.open(str(path), "w", options={"movflags": "empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.open()
        container.start_encoding()
    assert "none.mp4: wanted" in refusal(path)


@pytest.mark.parametrize(
    "name",
    [
        "http://127.0.0.1:9/v.mp4",
        "https://example.org/v.mp4",
        "file:{secret}",
        "file://{secret}",
        "concat:{secret}|{secret}",
        "subfile,,start,0,end,0,,:{secret}",
        "crypto:{secret}",
        "data:video/mp4;base64,AAAA",
        "pipe:0",
        "fd:",
        "rtsp://127.0.0.1:9/v",
        "-",
    ],
)
def test_addresses_are_not_files(tmp_path, name):
    secret = write_video(tmp_path / "secret.mp4", stamps=[0])
    message = refusal(name.format(secret=secret))
    assert "wanted a local file" in message or "wanted a video file, found none" in message


PLAYLISTS = {
    "list.m3u8": (
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{secret}\n"
        "#EXT-X-ENDLIST\n"
    ),
    "list.ffconcat": "ffconcat version 1.0\nfile {secret}\n",
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    "list.mpd": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4">'
        '<Representation id="0" bandwidth="1000"><BaseURL>{secret}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    ),
    "list.txt": "http://127.0.0.1:9/v.mp4\n",
}


@pytest.mark.parametrize("disguise", [False, True], ids=["plain", "as-mp4"])
@pytest.mark.parametrize("name", PLAYLISTS)
def test_playlists_do_not_reach_other_files(tmp_path, monkeypatch, name, disguise):
    write_video(tmp_path / "secret.ts")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / (f"{name}.mp4" if disguise else name)
    for secret in ("secret.ts", str(tmp_path / "secret.ts"), "http://127.0.0.1:9/secret.ts"):
        path.write_text(PLAYLISTS[name].format(secret=secret))
        refusal(path)


def test_a_playlist_would_be_followed_without_the_refusal(tmp_path):
    """The control for the test above: libav itself does follow this one."""
    secret = write_video(tmp_path / "secret.ts")
    path = tmp_path / "list.ffconcat"
    path.write_text(f"ffconcat version 1.0\nfile {secret.name}\n")
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).width == 64


def test_only_regular_files_are_read(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes on this system")
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    assert "wanted a regular file" in refusal(fifo)
    assert "wanted a regular file" in refusal("/dev/zero")


def test_name_that_looks_like_a_protocol_is_still_a_file(tmp_path, monkeypatch):
    write_video(tmp_path / "plain.mp4")
    (tmp_path / "concat:a|b.mp4").write_bytes((tmp_path / "plain.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert [number_of(f.image) for f in open_video("concat:a|b.mp4")] == [0, 25]


def test_absurd_size_in_the_container(tmp_path):
    path = write_video(tmp_path / "v.avi", "rawvideo", stamps=[0])
    data = bytearray(path.read_bytes())
    # BITMAPINFOHEADER: size 40, width, height
    at = data.index(struct.pack("<III", 40, 64, 48))
    data[at + 4 : at + 12] = struct.pack("<II", 9_000, 9_000)
    path.write_bytes(data)
    message = refusal(path)
    assert f"wanted frames of at most {MAX_PIXELS} pixels, got 9000 x 9000" in message


def test_absurd_size_in_the_pictures(tmp_path):
    path = write_video(tmp_path / "v.avi", "mjpeg", stamps=[0, 1], pixel_format="yuvj420p")
    data = bytearray(path.read_bytes())
    # start of frame: marker, length, 8 bits, height, width
    start = data.index(b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 48, 64))
    data[start + 5 : start + 9] = struct.pack(">HH", 60_000, 60_000)
    path.write_bytes(data)
    try:
        frames = list(open_video(path))
    except VideoError as error:
        assert "\n" not in str(error)
    else:
        assert all(frame.image.size < 3 * MAX_PIXELS for frame in frames)


def test_source_of_the_wrong_kind():
    assert refusal(7).endswith("got a int")
    assert refusal(b"v.mp4").endswith("got a bytes")


def test_null_byte_in_the_path():
    assert "wanted a video file, found none" in refusal("a\0b.mp4")
