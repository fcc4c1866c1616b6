"""The arithmetic of the output canvas: its size, where the photo lies on it, boxes and masks."""

import numpy as np
import pytest

from instantid.images import ROOM_AROUND_FACE, clamped_box, output_size, place, region_mask

# The size of the output

SHAPES = [(round(1000 * ratio), 1000) for ratio in np.geomspace(1 / 3, 3, 1500)] + [(1, 4000), (4000, 1), (1, 1)]


@pytest.mark.parametrize("native", [512, 768, 1024])
def test_an_output_has_about_the_native_area_and_never_more(native):
    areas = [np.prod(output_size(shape, native)) / native**2 for shape in SHAPES]
    assert 0.93 < min(areas) <= max(areas) <= 1


@pytest.mark.parametrize("native", [512, 768, 1024])
def test_output_sides_are_multiples_that_every_level_of_the_unet_divides(native):
    assert {side % (native // 16) for shape in SHAPES for side in output_size(shape, native)} == {0}


@pytest.mark.parametrize("native", [512, 768, 1024])
def test_an_output_is_never_square(native):
    assert all(width != height for width, height in (output_size(shape, native) for shape in SHAPES))


@pytest.mark.parametrize("native", [64, 128])
def test_an_output_of_a_small_base_is_its_square(native):
    assert {output_size(shape, native) for shape in SHAPES} == {(native, native)}


@pytest.mark.parametrize("native", [512, 768, 1024])
def test_an_output_is_never_more_than_twice_as_long_as_wide(native):
    assert max(max(size) / min(size) for size in (output_size(shape, native) for shape in SHAPES)) == 2


def test_an_output_is_wide_for_wide_photos_and_tall_for_tall_ones():
    for photo in SHAPES:
        if max(photo) > 1.1 * min(photo):
            width, height = output_size(photo, 1024)
            assert (photo[0] > photo[1]) == (width > height)


def test_a_square_photo_gives_a_portrait():
    width, height = output_size((700, 700), 1024)
    assert width < height


@pytest.mark.parametrize(("photo", "output"), [((10, 4000), (704, 1408)), ((4000, 10), (1408, 704))])
def test_a_strip_gives_two_to_one(photo, output):
    assert output_size(photo, 1024) == output


@pytest.mark.parametrize("shape", [(832, 1216), (1216, 832), (896, 1152), (768, 1344 - 64)])
def test_an_output_keeps_the_photos_proportions(shape):
    width, height = output_size(shape, 1024)
    assert width / height == pytest.approx(shape[0] / shape[1], rel=0.08)


# Where the photo lies on the canvas


def placements(count=400):
    """Random photos, canvases and face boxes inside the photo, with how each is placed."""
    random = np.random.default_rng(7)
    for _ in range(count):
        photo, canvas = random.integers(20, 3000, 2), random.integers(64, 1500, 2)
        box = np.sort(random.random((2, 2)), axis=0) * photo
        box[1] = np.minimum(np.maximum(box[1], box[0] + 2), photo)
        yield photo, canvas, box.reshape(4), place(tuple(photo), tuple(canvas), box.reshape(4))


def test_the_face_is_always_inside_the_canvas():
    for _, canvas, box, placed in placements():
        x1, y1, x2, y2 = placed.box(box)
        assert min(x1, y1) > -1e-6
        assert x2 < canvas[0] + 1e-6
        assert y2 < canvas[1] + 1e-6


def test_the_photo_covers_the_canvas_unless_that_cuts_the_face():
    covering = []
    for photo, canvas, box, placed in placements():
        scale = (canvas / photo).max()
        left, top, right, bottom = placed.box(np.array([0, 0, *photo]))
        covers = max(left, top) < 1e-6 and right > canvas[0] - 1e-6 and bottom > canvas[1] - 1e-6
        fits = ((box[2:] - box[:2]) * scale * ROOM_AROUND_FACE <= canvas).all()
        assert covers == fits
        covering.append(covers)
    assert 50 < sum(covering) < 350  # both cases were met


def test_a_face_that_covering_would_cut_is_shrunk_no_more_than_needed():
    placed = place((1600, 400), (400, 800), np.array([200, 0, 600, 400]))
    assert placed.scale == pytest.approx(400 / (400 * ROOM_AROUND_FACE))


def test_a_photo_smaller_than_the_canvas_leaves_the_face_in_the_middle():
    box = np.array([200, 0, 600, 400])
    face = place((1600, 400), (400, 800), box).box(box)
    np.testing.assert_allclose((face[:2] + face[2:]) / 2, (200, 400))


def test_a_small_face_in_a_large_photo_comes_to_the_middle():
    placed = place((3000, 3000), (600, 400), np.array([1490, 1690, 1510, 1710]))
    np.testing.assert_allclose(placed.points([(1500, 1700)]), [(300, 200)])


def test_a_face_at_the_edge_stays_where_the_photo_ends():
    placed = place((1000, 500), (500, 500), np.array([0, 200, 60, 280]))
    assert (placed.scale, placed.left, placed.top) == (1, 0, 0)


def test_points_and_boxes_are_moved_alike():
    placed = place((300, 200), (640, 640), np.array([100, 50, 160, 130]))
    np.testing.assert_allclose(placed.box(np.array([1, 2, 3, 4])), placed.points([(1, 2), (3, 4)]).reshape(4))


# Boxes and masks


@pytest.mark.parametrize(
    ("box", "clamped"),
    [
        ((10, 20, 30, 40), (10, 20, 30, 40)),
        ((10.6, 20.2, 30.1, 39.5), (10, 20, 31, 40)),
        ((-15, -7, 30, 40), (0, 0, 30, 40)),
        ((60, 40, 140, 90), (60, 40, 100, 50)),
        ((-50, -60, 300, 400), (0, 0, 100, 50)),
    ],
)
def test_a_box_is_cut_to_the_picture_in_whole_pixels(box, clamped):
    assert clamped_box(np.array(box), (100, 50)) == clamped


@pytest.mark.parametrize(
    "box", [(-50, -50, -10, -10), (200, 10, 240, 30), (10, 70, 30, 90), (40, 20, 40, 20), (60, 30, 40, 20)]
)
@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_a_box_outside_the_picture_or_without_size_still_holds_a_pixel(box, margin):
    left, top, right, bottom = clamped_box(np.array(box), (100, 50), margin)
    assert 0 <= left < right <= 100
    assert 0 <= top < bottom <= 50


def test_a_margin_grows_a_box_by_parts_of_its_own_sides():
    assert clamped_box(np.array([40, 20, 60, 30]), (100, 50), margin=0.5) == (30, 15, 70, 35)


def test_a_region_mask_is_white_around_the_face_and_black_elsewhere():
    mask = np.asarray(region_mask((100, 50), np.array([40, 20, 60, 30])))
    expected = np.zeros((50, 100, 3), np.uint8)
    expected[15:35, 30:70] = 255
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("box", [(-90, -90, -40, -40), (300, 300, 340, 350), (-5, -5, 5, 5), (50, 25, 50, 25)])
def test_a_region_mask_is_never_empty(box):
    assert np.asarray(region_mask((100, 50), np.array(box))).any()
