from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from notifiers.charts.labels import Box, Label, Place, place

SHEET = Box(0, 0, 1000, 600)
SIZES = ((300.0, 80.0), (160.0, 80.0), (120.0, 40.0))


def placed(*labels: Label, taken: list[Box] | None = None, upwards: bool = False) -> list[Place | None]:
    return place(labels, upwards=upwards, inside=SHEET, taken=taken or [], gap=20)


def only(x: float, y: float, *taken: Box, upwards: bool = False) -> Place:
    (found,) = placed(Label(x, y, SIZES), taken=[*taken], upwards=upwards)
    assert found is not None
    return found


def test_the_longest_text_goes_left_of_its_point_where_nothing_is() -> None:
    assert only(600, 300) == Place(0, Box(280, 220, 580, 300), None)
    assert only(600, 300, upwards=True).box == Box(280, 300, 580, 380)


def test_a_shorter_text_is_better_than_a_place_far_away() -> None:
    found = only(600, 300, Box(0, 0, 400, 600), Box(581, 200, 1000, 280))
    assert (found.text, found.leader) == (1, None)


def test_a_label_that_is_far_from_its_point_has_a_line_to_it() -> None:
    found = only(20, 500, Box(31, 430, 1000, 600))
    assert found.leader is not None
    assert found.box.top < 430
    assert found.leader.bottom == found.box.top


def test_where_there_is_no_room_there_is_no_label() -> None:
    assert placed(Label(500, 300, SIZES), taken=[SHEET]) == [None]
    assert place([Label(20, 20, SIZES)], upwards=False, inside=Box(0, 0, 50, 50), taken=[], gap=20) == [None]
    assert placed() == []


def test_where_there_is_room_for_one_label_it_is_the_first() -> None:
    walls = [Box(0, 0, 1000, 240), Box(0, 310, 1000, 600)]
    narrow = Label(520, 300, ((450.0, 50.0),))
    first, second = placed(narrow, Label(510, 300, ((450.0, 50.0),)), taken=walls)
    assert first is not None
    assert second is None


def test_the_first_label_makes_room_for_another() -> None:
    one, other = placed(Label(400, 300, ((300.0, 80.0),)), Label(390, 300, ((300.0, 80.0),)))
    assert one is not None
    assert other is not None


coordinates = st.floats(0, 1000)
labels = st.builds(lambda x, y: Label(x, y, SIZES), coordinates, coordinates)
boxes = st.builds(
    lambda x, y, width, height: Box(x, y, x + width, y + height),
    *(coordinates, coordinates, st.floats(1, 300), st.floats(1, 300)),
)


@given(st.lists(labels, max_size=4), st.lists(boxes, max_size=12), st.booleans())
def test_labels_cover_nothing_and_stay_inside(some: list[Label], taken: list[Box], upwards: bool) -> None:
    found = [one for one in placed(*some, taken=taken, upwards=upwards) if one is not None]
    for index, one in enumerate(found):
        others = [box for other in found[:index] for box in other.boxes]
        assert one.box.within(SHEET)
        assert not any(mine.meets(box) for mine in one.boxes for box in (*taken, *others))
