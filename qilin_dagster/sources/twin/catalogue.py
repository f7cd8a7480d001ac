"""The two tables of things: notes with their counters and paths, and users."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qilin_dagster.sources.twin import text
from qilin_dagster.sources.twin.blocks import B, D
from qilin_dagster.sources.twin.draws import Floats, Ints, offsets, stream, within
from qilin_dagster.sources.twin.lexicon import subjects
from qilin_dagster.sources.twin.tables import World, as_lists
from qilin_dagster.sources.twin.targets import AGE, COUNTRY_SHARE, GENDER, PLATFORM
from qilin_dagster.sources.twin.world import COMMERCIAL_POOL, SUBJECT_DOMAIN, VIDEO, Notes

N_THIRD: Final = 546  # taxonomy level 3; with 'nan' and 'None' 548 values, as hashed by the script
# Engagement per click on the average note, from which its counters are drawn.
LEVELS: Final = {"like": 0.04, "collect": 0.025, "comment": 0.006, "share": 0.012, "follow": 0.004}


def user_table(world: World) -> pa.Table:
    """user_feat: demographics, counts and 40 numbers without published meaning."""
    rng = stream(world.seed, "user features")
    users = world.users
    count = len(users.activity)
    activity = users.activity

    def counts(level: float, spread: float) -> pa.Array:
        drawn = np.exp(rng.normal(np.log(level), spread, count)) * np.sqrt(activity)
        return pa.array(np.floor(drawn))

    columns: dict[str, pa.Array] = {
        "gender": pa.array([name for name, _ in GENDER]).take(pa.array(users.gender)),
        "platform": pa.array([name for name, _ in PLATFORM]).take(pa.array(users.platform)),
        "age": pa.array([name for name, _ in AGE]).take(pa.array(users.age)),
        "fans_num": counts(3.0, 1.8),
        "follows_num": counts(25.0, 1.9),
    }
    days = np.clip(np.round(9 + 8 * np.log1p(activity) + rng.normal(0, 4, count)), 0, 28)
    for number in range(1, 41):
        name = f"dense_feat{number}"
        if number in range(3, 33) and number % 2 == 1:
            share = 1.0 - 0.03 * (number - 3) / 2
            columns[name] = pa.array(
                np.floor(np.clip(days * share * rng.uniform(0.6, 1.0, count), 0, 28))
            )
        elif number >= 33 and number <= 37:
            columns[name] = counts(6000.0, 1.1)
        elif number >= 38:
            columns[name] = counts(3.0, 0.9)
        else:
            columns[name] = counts(float(60 * (1 + number * 7 % 11)), 1.3)
    columns["location"] = _locations(count, rng)
    columns["user_idx"] = pa.array(np.arange(count))
    return pa.table(columns)


# Places with their country's share of the users whose place is known (the paper's section 4.1; the
# rest is spread evenly), several places of a country alike.
PLACES: Final[dict[str, tuple[str, ...]]] = {
    "中国": (
        *("中国  安徽  淮北", "中国  广东  深圳", "中国  广东  广州", "中国  浙江  杭州"),
        *("中国  江苏  苏州", "中国  四川  成都", "中国  北京", "中国  上海", "中国  湖北  武汉"),
        *("中国  陕西  西安", "中国  福建  厦门", "中国  山东  青岛", "中国  河南  郑州"),
    ),
    "安道尔": ("安道尔",),
    "澳大利亚": ("澳大利亚  悉尼",),
    "冰岛": ("冰岛",),
    "马来西亚": ("马来西亚  吉隆坡",),
    "elsewhere": (
        *("Hong Kong  Tsuen Wan", "Hong Kong  Sha Tin", "日本  东京", "韩国  首尔"),
        *("United States  California", "英国  伦敦", "加拿大  多伦多", "法国  巴黎", "新加坡"),
    ),
}


def _locations(count: int, rng: np.random.Generator) -> pa.Array:
    """Mostly empty; else parts separated by two blanks, in Chinese or English."""
    places = [place for country in PLACES.values() for place in country]
    shares = [
        COUNTRY_SHARE[country] / len(names) for country, names in PLACES.items() for _ in names
    ]
    chosen = np.where(
        rng.random(count) < 0.62, len(places), rng.choice(len(places), count, p=shares)
    )
    return pa.array([*places, ""], pa.string()).take(pa.array(chosen))


def note_table(world: World, first: int, last: int) -> pa.Table:
    """Notes ``first`` to ``last`` by published id: text, form, taxonomy, counters, image paths."""
    rng = stream(world.seed, f"notes {first}")
    notes = world.notes
    latent = world.numbering.latent[first:last]
    count = len(latent)
    is_video = notes.form[latent] == VIDEO
    title, body = text.titles(notes, latent), text.contents(notes, latent)
    silent = pa.array(rng.random(count) < text.NO_TEXT)
    length = pc.utf8_length(body).to_numpy(zero_copy_only=False) - rng.integers(1, 43, count)
    title = pc.if_else(silent, pa.scalar("nan"), title)
    body = pc.if_else(silent, pa.scalar(None, pa.string()), body)
    n_images = notes.n_images(latent)
    stated = np.maximum(1, n_images + rng.integers(-3, 7, count) * (rng.random(count) < 0.3))
    commercial = (notes.pool[latent] == COMMERCIAL_POOL).astype(float)
    commercial[rng.random(count) < 2e-5] = 7.0  # anomalies the authors know of
    columns: dict[str, pa.Array] = {
        "note_title": title,
        "note_content": body,
        "note_type": pa.array(1.0 + is_video),
        "video_duration": pa.array(
            np.where(is_video, np.clip(np.floor(np.exp(rng.normal(4.1, 0.9, count))), 3, 7777), 0.0)
        ),
        "video_height": pa.array(
            np.where(is_video, rng.choice([1920.0, 1280.0, 1440.0], count), 0.0)
        ),
        "video_width": pa.array(
            np.where(is_video, rng.choice([1080.0, 720.0, 1920.0], count), 0.0)
        ),
        "image_num": pa.array(np.where(is_video, 1.0, stated)),
        "content_length": pa.array(np.maximum(length, 0).astype(float)),
        "commercial_flag": pa.array(commercial),
        **_taxonomy(notes, latent, rng),
        **_counters(world, latent, rng),
        "note_idx": pa.array(np.arange(first, last)),
        "image_path": _image_paths(world, latent, n_images),
    }
    return pa.table(columns)


def _taxonomy(notes: Notes, latent: Ints, rng: np.random.Generator) -> dict[str, pa.Array]:
    """Opaque ids; missing is the word 'nan' or 'None', level 3 in half of the notes."""
    count = len(latent)
    subject = notes.subject[latent]
    n_subjects = len(subjects())
    domains = [f"5ab094be481d26b8ef{0x9045F1 + 23 * number:06x}" for number in range(41)]
    seconds = [f"c{487 + 13 * number:023d}" for number in range(n_subjects)]
    thirds = [f"v{1009 + 7 * number:023d}" for number in range(N_THIRD)]
    third = (subject * 2 + (notes.aspect[latent] >= 5)) % N_THIRD

    def taken(names: list[str], index: Ints, missing: float) -> pa.Array:
        u = rng.random(count)
        index = np.where(u < missing * 0.8, len(names), index)
        index = np.where((u >= missing * 0.8) & (u < missing), len(names) + 1, index)
        return pa.array([*names, "nan", "None"]).take(pa.array(index))

    return {
        "taxonomy1_id": taken(domains, SUBJECT_DOMAIN[subject], 0.01),
        "taxonomy2_id": taken(seconds, subject, 0.03),
        "taxonomy3_id": taken(thirds, third, 0.5),
    }


def _counters(world: World, latent: Ints, rng: np.random.Generator) -> dict[str, pa.Array]:
    """30 heavy-tailed counts. Feed counts are 0 where the block says "never clicked": the leak."""
    count = len(latent)
    notes = world.notes
    quality = notes.quality[latent]
    block = world.numbering.block[latent]
    is_video = notes.form[latent] == VIDEO
    opened = np.isin(block, (B, D))
    n_clicks = world.numbering.n_clicks[latent]
    if not world.numbering.is_leaking:
        opened, n_clicks = rng.random(count) < 0.52, np.zeros(count, dtype=np.int64)
    reach = rng.normal(6.6, 1.9, count) + 0.35 * quality + 0.5 * np.log1p(n_clicks)

    def whole(values: Floats) -> Floats:
        return np.floor(np.minimum(values, 2.7e8))

    search = whole(np.exp(reach))
    feed = np.where(opened, whole(np.exp(reach + rng.normal(0.4, 1.4, count))), 0.0)
    other = whole(np.exp(reach - 2.0 + rng.normal(0, 1.0, count)))
    rate = 1 / (1 + np.exp(-(rng.normal(-1.7, 0.6, count) + 0.3 * quality)))
    search_clicks, feed_clicks = whole(search * rate), whole(feed * rate * 0.8)
    all_clicks = search_clicks + feed_clicks + whole(other * rate)

    def share(of: Floats, level: float) -> Floats:
        return whole(of * np.exp(rng.normal(np.log(level), 1.0, count) + 0.4 * quality))

    parts = {
        "search": {name: share(search_clicks, level) for name, level in LEVELS.items()},
        "rec": {name: share(feed_clicks, level) for name, level in LEVELS.items()},
    }
    # Totals were logged apart from their parts: they can be a little below the sum.
    total = {
        name: np.maximum(
            0.0, parts["search"][name] + parts["rec"][name] + rng.integers(-1, 8, count)
        )
        for name in ("like", "collect", "comment", "share")
    }
    lifetime = {
        name: whole(total[name] + np.exp(reach - back + rng.normal(0, 1.2, count) + 0.5 * quality))
        for name, back in (("like", 1.2), ("collect", 2.0), ("comment", 3.6))
    }
    watched = np.exp(rng.normal(3.4, 0.7, count))
    search_view = np.where(is_video, whole(search_clicks * watched), 0.0)
    feed_view = np.where(is_video, whole(feed_clicks * watched), 0.0)
    view = whole(search_view + feed_view + np.where(is_video, other * rate * watched, 0.0))
    values = {
        "imp_num": search + feed + other,
        "imp_rec_num": feed,
        "imp_search_num": search,
        "click_num": all_clicks,
        "click_rec_num": feed_clicks,
        "click_search_num": search_clicks,
        **{f"{name}_num": total[name] for name in ("like", "collect", "comment", "share")},
        "screenshot_num": share(all_clicks, 0.012),
        "hide_num": share(feed, 0.0004),
        **{f"rec_{name}_num": parts["rec"][name] for name in LEVELS},
        **{f"search_{name}_num": parts["search"][name] for name in LEVELS},
        **{f"accum_{name}_num": lifetime[name] for name in lifetime},
        "view_time": view,
        "rec_view_time": feed_view,
        "search_view_time": search_view,
        "valid_view_times": np.where(is_video, whole(all_clicks * 0.6), 0.0),
        "full_view_times": np.where(
            is_video, whole(all_clicks * np.exp(rng.normal(-2, 0.6, count))), 0.0
        ),
    }
    return {name: pa.array(numbers) for name, numbers in values.items()}


def _image_paths(world: World, latent: Ints, n_images: Ints) -> pa.Array:
    """image/part_k/<id>/<image>.jpg, k = id // 10000; these ids are not the published note_idx."""
    folder = image_folder(world.notes, latent)
    out = offsets(n_images)
    owner = np.repeat(np.arange(len(latent)), n_images)
    image = folder[owner] * 20 + within(n_images)
    digits = [
        pa.array(one).cast(pa.string()) for one in (folder[owner] // 10_000, folder[owner], image)
    ]
    paths = pc.binary_join_element_wise(
        pa.scalar("image/part_"),
        digits[0],
        pa.scalar("/"),
        digits[1],
        pa.scalar("/"),
        digits[2],
        pa.scalar(".jpg"),
        "",
    )
    return as_lists(out, paths)


def image_folder(notes: Notes, latent: Ints) -> Ints:
    """Internal image id of a note: a fixed scramble of its latent number."""
    size = len(notes)
    step = 7_368_787 % size or 1
    while np.gcd(step, size) != 1:
        step += 1
    return (latent * step + notes.first_draw % size) % size + notes.first_folder
