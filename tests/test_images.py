"""Photos of every kind: turned, grey, transparent, deep, animated, as arrays, too large, broken, or no photo."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from instantid import images
from instantid.images import MAX_SIDE, open_photo
from ip_adapter.errors import UserError

ORIENTATION = 0x0112  # EXIF
RED, WHITE = (255, 0, 0), (255, 255, 255)


def four_colours(width=48, height=32):
    """Red, green, blue and yellow quarters: no turn or mirror image of it is itself."""
    array = np.zeros((height, width, 3), np.uint8)
    array[: height // 2, : width // 2] = RED
    array[: height // 2, width // 2 :] = (0, 255, 0)
    array[height // 2 :, : width // 2] = (0, 0, 255)
    array[height // 2 :, width // 2 :] = (255, 255, 0)
    return array


def fault(source):
    with pytest.raises(UserError) as caught:
        open_photo(source)
    return caught.value


def saved(path, picture, **options):
    picture.save(path, **options)
    return path


# Turned photos. How each orientation lies in the file, from the upright array.
LYING = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", LYING)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_turned_photo_is_read_upright(tmp_path, orientation, suffix):
    upright = four_colours()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    lying = Image.fromarray(np.ascontiguousarray(LYING[orientation](upright)))
    path = saved(tmp_path / f"turned{suffix}", lying, exif=exif, quality=95)
    photo = open_photo(path)
    assert photo.size == (48, 32)
    assert np.abs(np.asarray(photo).astype(int) - upright).mean() < 8


def test_a_turned_pil_picture_is_read_upright():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    file = io.BytesIO()
    Image.fromarray(np.rot90(four_colours()).copy()).save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(open_photo(Image.open(file)), four_colours())


def test_a_turned_photo_whose_exif_cannot_be_written_again_is_read_upright(tmp_path):
    """PIL rewrites all EXIF entries when it turns a picture, and fails on some that cameras write."""
    entries = [(0x0100, 2, 4, b"abc\0"), (ORIENTATION, 3, 1, struct.pack("<HH", 6, 0))]  # a width that is a text
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries))
    exif += b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries) + bytes(4)
    lying = Image.fromarray(np.rot90(four_colours()).copy())
    photo = open_photo(saved(tmp_path / "camera.jpg", lying, exif=exif, quality=95))
    assert np.abs(np.asarray(photo).astype(int) - four_colours()).mean() < 8


# Kinds of pixels


def test_grey_stays_grey():
    np.testing.assert_array_equal(open_photo(Image.new("L", (3, 2), 77)), np.full((2, 3, 3), 77))


@pytest.mark.parametrize(("alpha", "seen"), [(0, 255), (255, 40), (51, 212)])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_laid_on_white(mode, alpha, seen):
    colour = (40, alpha) if mode == "LA" else (40, 40, 40, alpha)
    np.testing.assert_allclose(open_photo(Image.new(mode, (3, 2), colour)), np.full((2, 3, 3), seen), atol=1)


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path):
    path = saved(tmp_path / "print.jpg", Image.fromarray(four_colours()).convert("CMYK"), quality=95)
    assert Image.open(path).mode == "CMYK"
    assert np.abs(np.asarray(open_photo(path)).astype(int) - four_colours()).mean() < 8


RAMP_16 = np.linspace(0, 65535, 60).astype(np.uint16).reshape(6, 10)


def test_a_16_bit_png_is_scaled_not_cut(tmp_path):
    path = saved(tmp_path / "scan.png", Image.fromarray(RAMP_16))
    np.testing.assert_allclose(np.asarray(open_photo(path))[..., 1], RAMP_16 / 257, atol=1)


def test_a_dark_16_bit_picture_stays_dark():
    assert np.asarray(open_photo(Image.fromarray(np.full((2, 3), 200, np.uint16)))).max() <= 1


@pytest.mark.parametrize("mode", ["I", "F"])
def test_a_grey_picture_in_a_wide_mode_keeps_its_values(mode):
    np.testing.assert_allclose(open_photo(Image.new("L", (3, 2), 77).convert(mode)), np.full((2, 3, 3), 77), atol=1)


def test_a_floating_point_picture_of_0_to_1_is_scaled_and_what_is_not_a_number_is_black():
    picture = Image.fromarray(np.array([[0.0, 0.5, 1.0, np.nan]], np.float32))
    np.testing.assert_allclose(np.asarray(open_photo(picture))[0, :, 0], [0, 127.5, 255, 0], atol=1)


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_a_transparent_palette_entry_becomes_white(tmp_path, suffix):
    picture = Image.new("P", (4, 2), 0)
    picture.putpalette([10, 20, 30, *RED])
    picture.putpixel((3, 1), 1)
    photo = open_photo(saved(tmp_path / f"drawn{suffix}", picture, transparency=0))
    assert (photo.getpixel((0, 0)), photo.getpixel((3, 1))) == (WHITE, RED)


def test_a_picture_of_single_bits_is_black_and_white():
    picture = Image.new("1", (2, 1), 0)
    picture.putpixel((1, 0), 1)
    np.testing.assert_array_equal(np.asarray(open_photo(picture))[0], [(0, 0, 0), WHITE])


def test_the_first_frame_of_an_animation_is_taken(tmp_path):
    frames = [Image.new("RGB", (6, 4), colour) for colour in (RED, (0, 0, 255))]
    path = saved(tmp_path / "moving.gif", frames[0], save_all=True, append_images=frames[1:])
    assert open_photo(path).getpixel((2, 2)) == RED


# Arrays


@pytest.mark.parametrize(
    ("array", "seen"),
    [
        (four_colours(), four_colours()),
        (four_colours().astype(np.uint16) * 257, four_colours()),
        (four_colours() / 255, four_colours()),
        (four_colours() / np.float32(255), four_colours()),
        (four_colours() > 0, four_colours()),
        (four_colours()[..., :1], np.repeat(four_colours()[..., :1], 3, axis=2)),
        (four_colours()[..., 0], np.repeat(four_colours()[..., :1], 3, axis=2)),
        (np.dstack([four_colours(), np.full((32, 48), 255, np.uint8)]), four_colours()),
        (np.dstack([four_colours(), np.zeros((32, 48), np.uint8)]), np.full((32, 48, 3), 255)),
        (np.array([[-1.0, 2.0, np.nan, np.inf]]), np.repeat([[[0], [255], [0], [255]]], 3, axis=2)),
        (four_colours()[::-1, ::-1], four_colours()[::-1, ::-1]),
    ],
    ids=[
        "uint8",
        "uint16",
        "float64",
        "float32",
        "bool",
        "one-channel",
        "flat",
        "opaque",
        "transparent",
        "out-of-range",
        "reversed",
    ],
)
def test_an_array_is_read_as_rgb(array, seen):
    np.testing.assert_array_equal(open_photo(array), seen)


@pytest.mark.parametrize("shape", [(4,), (4, 5, 2), (2, 4, 5, 3), (0, 5, 3), (4, 0), ()])
def test_an_array_of_another_shape_is_named(shape):
    error = fault(np.zeros(shape, np.uint8))
    assert error.code == "photo.array_shape"
    assert str(shape) in str(error)


@pytest.mark.parametrize("kind", ["int64", "int8", "complex128", "<U1"])
def test_an_array_of_other_numbers_is_named_not_misread(kind):
    error = fault(np.zeros((4, 5, 3), kind))
    assert error.code == "photo.other_type"
    assert kind in str(error)


@pytest.mark.parametrize("source", [None, 7, b"photo", ["photo.jpg"]])
def test_something_that_is_no_photo_is_named(source):
    error = fault(source)
    assert error.code == "photo.other_type"
    assert type(source).__name__ in str(error)


# What a caller passes is theirs


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_the_callers_picture_is_not_changed(mode):
    picture = Image.new("RGB", (MAX_SIDE + 40, 30), RED).convert(mode)
    photo = open_photo(picture)
    photo.paste(0, (0, 0, 9, 9))
    assert (picture.size, picture.mode) == ((MAX_SIDE + 40, 30), mode)
    assert picture.convert("RGB").getpixel((0, 0)) == RED


def test_the_callers_array_is_not_changed():
    array = four_colours()
    open_photo(array).paste(0, (0, 0, 9, 9))
    np.testing.assert_array_equal(array, four_colours())


@pytest.mark.parametrize(("size", "kept"), [((5000, 100), (4096, 82)), ((50, 8192), (25, 4096)), ((9, 7), (9, 7))])
def test_the_longer_side_is_bounded_and_small_pictures_are_not_enlarged(size, kept):
    assert open_photo(Image.new("RGB", size)).size == kept


# Large and unusable files


def jpeg_of(width, height, tmp_path):
    """A JPEG that says it is of this size, and holds the data of a small one."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), RED).save(file, "JPEG")
    content = bytearray(file.getvalue())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    path = tmp_path / "large.jpg"
    path.write_bytes(content)
    return path


def png_of(width, height, tmp_path):
    """A PNG that says it is of this size, and holds next to nothing."""
    content = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path = tmp_path / "large.png"
    path.write_bytes(content)
    return path


def test_a_photo_of_200_million_pixels_is_decoded_at_a_fraction(tmp_path, monkeypatch):
    """PIL alone refuses it as an attack; phones take such photos."""
    path = saved(tmp_path / "phone.jpg", Image.new("L", (16320, 12240), 90), quality=30)
    decoded = []
    upright = images.ImageOps.exif_transpose
    monkeypatch.setattr(images.ImageOps, "exif_transpose", lambda p: decoded.append(p.size) or upright(p))
    assert open_photo(path).size == (4096, 3072)
    assert decoded == [(8160, 6120)]


@pytest.mark.parametrize(
    ("write", "size"), [(png_of, (20000, 5000)), (jpeg_of, (30000, 30000)), (jpeg_of, (60000, 3900))]
)
def test_too_many_pixels_are_refused_before_decoding_and_the_size_is_named(tmp_path, write, size):
    path = write(*size, tmp_path)
    start = time.perf_counter()
    error = fault(path)
    assert error.code == "photo.too_many_pixels"
    assert f"{size[0]} × {size[1]}" in str(error)
    assert time.perf_counter() - start < 1


def test_a_decompression_bomb_is_refused(tmp_path):
    assert fault(png_of(60000, 60000, tmp_path)).code == "photo.too_many_pixels"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_named(tmp_path, suffix, part):
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    whole = saved(tmp_path / f"whole{suffix}", Image.fromarray(noise)).read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[: int(part * len(whole))])
    error = fault(path)
    assert error.code == "photo.unreadable"
    assert f"cut{suffix}" in str(error)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8", b"<html>404</html>", bytes(5000)])
def test_a_file_that_is_no_picture_is_named_with_its_size(tmp_path, content):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    error = fault(path)
    assert error.code == "photo.unreadable"
    assert f"{len(content)} bytes" in str(error)


@pytest.mark.parametrize(
    "content", [b"II*\0", b"DDS ", b"\0\0\0\x18ftypavif", b"GIF89a", b"BM", b"8BPS", b"RIFF0000WEBP"]
)
def test_every_formats_own_kind_of_failure_is_caught(tmp_path, content):
    random = np.random.default_rng(1)
    for length in (3, 60, 500):
        (tmp_path / "photo").write_bytes(content + random.bytes(length))
        assert fault(tmp_path / "photo").code == "photo.unreadable"


@pytest.mark.parametrize("name", ["", "nowhere.jpg", "n" * 300, "nul\0"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    error = fault(f"{tmp_path}/{name}")
    assert error.code == "photo.missing"
    assert name in str(error)


def test_a_file_of_too_many_bytes_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "film.jpg"
    with path.open("wb") as file:
        file.truncate(3_000_000_000)  # takes no room on the disk
    start = time.perf_counter()
    error = fault(path)
    assert error.code == "photo.file_too_large"
    assert "3000 MB" in str(error)
    assert time.perf_counter() - start < 1
