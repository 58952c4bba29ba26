"""Published data sets, each from a small file in the exact format of its publisher."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shelftalk.data.dataset import Dataset
from shelftalk.data.sources import DataReport, DataSettings, read_dataset, source_hashes
from shelftalk.data.sources.layouts import LAYOUTS
from shelftalk.data.sources.locating import locate
from shelftalk.errors import DataError, MissingFile, UnreadableFile

Content = str | bytes

U_DATA = "196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t302\t4\t881250950\n"
FLAGS_OF_COMEDY = "0|0|0|0|0|1" + "|0" * 13
FLAGS_OF_CRIME = "0|1|0|0|0|0|1" + "|0" * 12
U_ITEM = (
    f"242|Kolya (1996)|24-Jan-1997||http://us.imdb.com/M/title-exact?Kolya%20(1996)|{FLAGS_OF_COMEDY}\n"
    f"302|Misérables, Les (1995)|01-Jan-1995||http://us.imdb.com/M/title|{FLAGS_OF_CRIME}\n"
).encode("latin-1")
ML_1M = {
    "ratings.dat": "1::1193::5::978300760\n1::661::3::978302109\n2::661::4::978302110\n",
    "movies.dat": (
        "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n"
        "1193::Café: One Flew Over the Cuckoo's Nest (1975)::Drama\n"
    ).encode("latin-1"),
}
ML_20M = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n1,29,3.5,1112484676\n",
    "movies.csv": (
        "movieId,title,genres\n2,Jumanji (1995),Adventure|Children|Fantasy\n"
        '29,"City of Lost Children, The (Cité des enfants perdus, La) (1995)",(no genres listed)\n'
    ),
}
REVIEW_2014 = {
    "reviewerID": "A2SUAM1J3GNN3B", "asin": "0000013714", "reviewerName": 'J. "Mac" McAuley',
    "helpful": [2, 3], "reviewText": "I bought this for my husband.", "overall": 5.0,
    "summary": "Heavenly", "unixReviewTime": 1252800000, "reviewTime": "09 13, 2009",
}  # fmt: skip
META_2014 = (
    "{'asin': '0000013714', 'title': \"Girl's Ballet \\\\ Tutu\", 'price': 3.17, 'imUrl': 'http://e/x.jpg', "
    "'related': {'also_bought': ['B00JHONN1S']}, 'salesRank': {'Toys & Games': 211836}, 'brand': 'Coxlures', "
    "'categories': [['Sports & Outdoors', 'Other Sports', 'Dance'], ['Clothing', 'Girls']]}\n"
    "{'asin': 'B00JHONN1S'}\n"
)
REVIEW_2018 = {
    "overall": 4.0, "verified": True, "reviewTime": "01 5, 2018", "reviewerID": "A2SUAM1J3GNN3C",
    "asin": "B00JHONN1S", "style": {"Color:": " Red"}, "reviewerName": "Ann", "reviewText": "Nice",
    "summary": "Nice", "unixReviewTime": 1515110400,
}  # fmt: skip
META_2018 = [
    {"category": ["Gift Cards", "Gift Cards"], "description": ["One.", "Two."], "title": "A Card",
     "also_buy": [], "brand": "Amazon", "price": "$1,234.50", "asin": "B00JHONN1S"},
    {"category": [], "description": [], "title": "var aPageStart = (new Date()).getTime();", "brand": "",
     "price": ".a-box-inner{background-color:#fff}", "asin": "B000000002"},
    {"category": [], "title": "again", "asin": "B00JHONN1S"},
]  # fmt: skip
REVIEW_2023 = {
    "rating": 5.0, "title": "Great", "text": "Lovely", "images": [], "asin": "B00YQ6X8EO",
    "parent_asin": "B00YQ6X8EP", "user_id": "AGKHLEW2SOWHNMFQIJGBECAF7INQ", "timestamp": 1588687728923,
    "helpful_vote": 0, "verified_purchase": True,
}  # fmt: skip
META_2023 = {
    "main_category": "All Beauty", "title": "Howard LC0008 Leather Conditioner", "average_rating": 4.8,
    "rating_number": 10, "features": [], "description": ["Leather."], "price": 12.5, "images": [],
    "videos": [], "store": "Howard Products", "categories": ["Beauty", "Care"], "details": {},
    "parent_asin": "B00YQ6X8EP", "bought_together": None,
}  # fmt: skip
STEAM = (
    "{u'username': u'Chaos Syren', u'hours': 0.1, u'products': 41, u'product_id': u'725280', "
    "u'page_order': 0, u'date': u'2017-12-17', u'text': u'This \\u201cwould\\u201d n\\'t be', "
    "u'early_access': False, u'page': 1}\n"
)
STEAM_GAMES = (
    "{u'publisher': u'Kotoshiro', u'genres': [u'Action', u'Casual'], u'app_name': u'Lost Summoner Kitty', "
    "u'title': u'Lost Summoner Kitty', u'price': 4.99, u'early_access': False, u'id': u'725280', "
    "u'developer': u'Kotoshiro'}\n"
    "{u'app_name': u'No id', u'price': u'Free To Play'}\n"
    "{u'app_name': u'Free one', u'price': u'Free To Play', u'tags': [u'RPG'], u'id': u'761140'}\n"
    "{u'app_name': u'Odd one', u'price': u'Install Now', u'id': u'761141'}\n"
)
YELP = {
    "review_id": "KU_O5udG6zpxOg-VcAEodg", "user_id": "mh_-eMZ6K5RLWhZyISBhwA",
    "business_id": "XQfwVwDr-v0ZS3_CbbE5Xw", "stars": 3.0, "useful": 0, "funny": 0, "cool": 0,
    "text": "If you decide to eat here", "date": "2018-07-07 22:09:11",
}  # fmt: skip
BUSINESS = {
    "business_id": "XQfwVwDr-v0ZS3_CbbE5Xw", "name": "Turning Point of North Wales", "address": "1460",
    "city": "North Wales", "state": "PA", "postal_code": "19454", "latitude": 40.21, "longitude": -75.22,
    "stars": 3.0, "review_count": 169, "is_open": 1, "attributes": None,
    "categories": "Restaurants, Breakfast & Brunch, Food", "hours": None,
}  # fmt: skip
SHELF = {
    "user_id": "8842281e1d1347389f2ab93d60773d4d", "book_id": "130580", "review_id": "330f9c153c8d33",
    "is_read": True, "rating": 0, "review_text_incomplete": "",
    "date_added": "Mon Aug 19 10:30:44 -0700 2013", "date_updated": "Mon Aug 19 10:31:00 -0700 2013",
    "read_at": "", "started_at": "",
}  # fmt: skip
BOOK = {
    "isbn": "", "text_reviews_count": "1", "series": [], "country_code": "US", "language_code": "",
    "popular_shelves": [{"count": "3", "name": "to-read"}, {"count": "1", "name": "poetry"}],
    "description": "A book.", "authors": [{"author_id": "604031", "role": ""}], "publisher": "Penguin",
    "title": "Runic Astrology", "book_id": "130580", "ratings_count": "15", "work_id": "5400751",
}  # fmt: skip
MBID = "f1b1cf71-bd35-4e99-8624-24a6e15f133a"
LASTFM_1K = (
    f"user_000001\t2009-05-04T23:08:57Z\t{MBID}\tDeep Dish\t\tFuck Me Im Famous\n"
    f'user_000001\t2009-05-04T13:54:10Z\t\tUnderground "Art"ist\t\tComposition 0919\n'
    f"user_000002\t2009-05-04T13:52:04Z\t{MBID}\tDeep Dish\t\tMc2\n"
    "user_000002\t2009-05-04T13:52:05Z\t\t\t\tMc2\n"
)
SHA1 = "00000c289a1829a808ac09c00daf10bc3c4e223b"
MIND = {
    "behaviors.tsv": (
        "1\tU13740\t11/11/2019 9:05:58 AM\tN55189 N42782\tN55689-1 N35729-0\n"
        "2\tU13740\t11/11/2019 9:05:57 PM\tN55189 N42782\tN35729-1\n"
        "3\tU91836\t11/12/2019 6:11:30 PM\t\tN55689-0 N42782-1\n"
    ),
    "news.tsv": "".join(
        f"{item}\tlifestyle\tlifestyleroyals\t{title}\tThe \"abstract\"\thttps://a/b.html\t[]\t[]\n"
        for item, title in (
            ("N55189", 'The "Brands" Queen'), ("N42782", "B"), ("N55689", "C"), ("N35729", "D"),
        )
    ),
}  # fmt: skip
RECBOLE = {
    "ml.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n",
    "ml.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        '242\t"Kolya" (1996)\t1996\tComedy\n302\tL.A. Confidential\t1997\tCrime Film-Noir\n'
    ),
}


def lines(*records: Mapping[str, Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def packed(*records: Mapping[str, Any]) -> bytes:
    return gzip.compress(lines(*records))


PUBLISHED: dict[str, dict[str, Content]] = {
    "movielens-100k": {"u.data": U_DATA, "u.item": U_ITEM, "u.genre": "unknown|0\n"},
    "movielens-1m": ML_1M,
    "movielens-csv": {**ML_20M, "tags.csv": "userId,movieId,tag,timestamp\n", "links.csv": "movieId\n"},
    "amazon-2014": {
        "reviews_Beauty_5.json.gz": packed(REVIEW_2014),
        "meta_Beauty.json.gz": gzip.compress(META_2014.encode()),
    },
    "amazon-2018": {
        "Gift_Cards_5.json.gz": packed(REVIEW_2018),
        "meta_Gift_Cards.json.gz": packed(*META_2018),
    },
    "amazon-2023": {
        "All_Beauty.jsonl.gz": packed(REVIEW_2023),
        "meta_All_Beauty.jsonl.gz": packed(META_2023),
    },
    "steam": {
        "steam_reviews.json.gz": gzip.compress(STEAM.encode()),
        "steam_games.json.gz": gzip.compress(STEAM_GAMES.encode()),
    },
    "yelp": {
        "yelp_academic_dataset_review.json": lines(YELP),
        "yelp_academic_dataset_business.json": lines(BUSINESS),
    },
    "goodreads": {
        "goodreads_interactions_poetry.json.gz": packed(SHELF, {**SHELF, "book_id": "7", "rating": 4}),
        "goodreads_books_poetry.json.gz": packed(BOOK),
        "goodreads_book_authors.json.gz": packed({"author_id": "604031", "name": "Ronald J. Fields"}),
    },
    "lastfm-1k": {"userid-timestamp-artid-artname-traid-traname.tsv": LASTFM_1K},
    "lastfm-360k": {"usersha1-artmbid-artname-plays.tsv": f"{SHA1}\t{MBID}\tbetty blowtorch\t2137\n"},
    "lastfm-hetrec": {
        "user_artists.dat": "userID\tartistID\tweight\n2\t51\t13883\n2\t52\t11690\n",
        "artists.dat": "id\tname\turl\tpictureURL\n"
        "51\tDuran Duran\thttp://a\thttp://b\n52\tMorcheeba\tc\td\n",
        "user_taggedartists.dat": (
            "userID\tartistID\ttagID\tday\tmonth\tyear\n2\t52\t13\t1\t4\t2009\n3\t52\t13\t1\t4\t2009\n"
            "2\t52\t15\t1\t4\t2009\n"
        ),
        "tags.dat": "tagID\ttagValue\n13\tchillout\n15\tcafé\n".encode("latin-1"),
    },
    "mind": MIND,
    "recbole": RECBOLE,
    "p5": {
        "sequential_data.txt": "1 1 2\n2 2 3\n",
        "datamaps.json": json.dumps(
            {
                "id2user": {"1": "A1YJEY40YUW4SE", "2": "A60XNB876KYML"},
                "id2item": {"1": "B004756YJA", "2": "B004ZT0SSG", "3": "B0020YLEYK"},
            }
        ),
    },
    "s3rec": {
        "Beauty.txt": "1 1 2 3\n2 3 1\n",
        "Beauty_item2attributes.json": json.dumps({"1": [1, 2], "2": [2]}),
    },
}  # fmt: skip


def save(folder: Path, files: Mapping[str, Content]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def read(folder: Path, **others: object) -> tuple[Dataset, DataReport]:
    return read_dataset(
        DataSettings.model_validate({"folder": str(folder)} | others), seed=0, order_needed=False
    )


def published(folder: Path, name: str) -> tuple[Dataset, DataReport]:
    return read(save(folder, PUBLISHED[name]))


def events(dataset: Dataset) -> list[tuple[Any, ...]]:
    return sorted(dataset.events.select("user_id", "item_id", "timestamp", "rating").rows())


def refusal(folder: Path, **others: object) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, **others)
    return str(caught.value)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_is_recognised_and_the_layout_can_be_named(tmp_path: Path, name: str) -> None:
    folder = save(tmp_path / "set", PUBLISHED[name])
    found = locate(DataSettings(folder=str(folder)))
    assert found.layout is LAYOUTS[name] and found.name == f"set ({LAYOUTS[name].title})"
    assert locate(DataSettings(folder=str(folder), layout=name)).files == found.files
    assert len(source_hashes(DataSettings(folder=str(folder)))) == len(found.files)
    dataset, report = read(folder, layout=name)
    assert dataset.fingerprint() == read(folder)[0].fingerprint() and report.source == found.name


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_damaged_interactions_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = save(tmp_path / "set", PUBLISHED[name])
    path = locate(DataSettings(folder=str(folder))).files["interactions"]
    content = path.read_bytes()
    path.write_bytes(content[:-12] if path.suffix == ".gz" else content + b"{\xff\xfe\x81 ]")
    assert path.name in refusal(folder, layout=name)


def test_movielens_100k(tmp_path: Path) -> None:
    dataset, report = published(tmp_path, "movielens-100k")
    assert events(dataset) == [
        ("186", "302", 891717742, 3.0), ("196", "242", 881250949, 3.0), ("196", "302", 881250950, 4.0),
    ]  # fmt: skip
    assert dataset.item("302").title == "Misérables, Les (1995)"
    assert dataset.item("302").categories == "Action ; Crime"
    assert dataset.item("242").categories == "Comedy"
    assert "u.item is not UTF-8 and was read as Windows-1252" in report.notes[0]


@pytest.mark.parametrize("name", ["movielens-1m", "movielens-csv"])
def test_later_movielens(tmp_path: Path, name: str) -> None:
    dataset, _ = published(tmp_path, name)
    if name == "movielens-1m":
        assert ("1", "1193", 978300760, 5.0) in events(dataset) and len(events(dataset)) == 3
        assert dataset.item("1193").title == "Café: One Flew Over the Cuckoo's Nest (1975)"
        assert dataset.item("661").categories == "Animation ; Children's ; Musical"
    else:
        assert events(dataset) == [("1", "2", 1112486027, 3.5), ("1", "29", 1112484676, 3.5)]
        title = "City of Lost Children, The (Cité des enfants perdus, La) (1995)"
        assert (dataset.item("29").title, dataset.item("29").categories) == (title, "")


def test_amazon_2014_has_metadata_in_pythons_notation(tmp_path: Path) -> None:
    dataset, report = published(tmp_path, "amazon-2014")
    assert events(dataset) == [("A2SUAM1J3GNN3B", "0000013714", 1252800000, 5.0)]
    item = dataset.item("0000013714")
    assert (item.title, item.brand, item.price) == ("Girl's Ballet \\ Tutu", "Coxlures", 3.17)
    assert item.categories == "Sports & Outdoors > Other Sports > Dance | Clothing > Girls"
    assert report.catalogue == 2 and report.items == 1


def test_nothing_in_pythons_notation_is_executed(tmp_path: Path) -> None:
    folder = save(tmp_path, PUBLISHED["amazon-2014"])
    meta = b"{'asin': '0000013714', 'title': __import__('os').system('touch executed')}\n"
    (folder / "meta_Beauty.json.gz").write_bytes(gzip.compress(meta))
    assert "meta_Beauty.json.gz, line 1: no dict in Python's notation" in refusal(folder)
    assert not Path("executed").exists()


def test_amazon_ratings_alone_of_2014_and_2018_differ_in_their_first_column(tmp_path: Path) -> None:
    expected = [("A39HTATAQ9V7YF", "0205616461", 1369699200, 5.0)]
    for layout, name, line in (
        ("amazon-2014", "ratings_Beauty.csv", "A39HTATAQ9V7YF,0205616461,5.0,1369699200\n"),
        ("amazon-2018", "All_Beauty.csv", "0205616461,A39HTATAQ9V7YF,5.0,1369699200\n"),
        ("amazon-2023", "All_Beauty.csv", "user_id,parent_asin,rating,timestamp\n"
         "A39HTATAQ9V7YF,0205616461,5.0,1369699200000\n"),
    ):  # fmt: skip
        folder = save(tmp_path / f"{layout}", {name: line})
        assert locate(DataSettings(folder=str(folder))).layout is LAYOUTS[layout]
        dataset, report = read(folder)
        assert events(dataset) == expected
        assert any("there is no file of items, so 1 of them are known by id alone" in n for n in report.notes)


def test_amazon_2018_tells_of_scripts_prices_and_rows_that_repeat(tmp_path: Path) -> None:
    dataset, report = published(tmp_path, "amazon-2018")
    item = dataset.item("B00JHONN1S")
    assert (item.title, item.price, item.description) == ("A Card", 1234.5, "One. Two.")
    assert dataset.item("B000000002").title == "" and item.categories == "Gift Cards > Gift Cards"
    assert [note.partition(", for instance ")[0] for note in report.notes] == [
        "meta_Gift_Cards.json.gz: 1 of 3 rows have the script of a page as their title, and are read as "
        "without one",
        "meta_Gift_Cards.json.gz: 1 of 3 rows have a price that is no number, and are read as without one",
        "meta_Gift_Cards.json.gz: 1 of 3 rows repeat an item",
    ]


def test_amazon_2023_as_json_lines_and_as_parquet(tmp_path: Path) -> None:
    dataset, _ = published(tmp_path / "lines", "amazon-2023")
    assert events(dataset) == [("AGKHLEW2SOWHNMFQIJGBECAF7INQ", "B00YQ6X8EP", 1588687728, 5.0)]
    item = dataset.item("B00YQ6X8EP")
    assert (item.brand, item.categories, item.price) == ("Howard Products", "Beauty > Care", 12.5)
    folder = save(tmp_path / "parquet", {})
    pl.DataFrame([REVIEW_2023]).write_parquet(folder / "full-00000.parquet")
    kept = {name: META_2023[name] for name in ("parent_asin", "title", "store", "categories", "description")}
    pl.DataFrame([{**kept, "price": "12.5"}]).write_parquet(folder / "meta_full.parquet")
    assert read(folder)[0].fingerprint() == dataset.fingerprint()


def test_steam_is_read_from_pythons_notation(tmp_path: Path) -> None:
    dataset, report = published(tmp_path, "steam")
    assert events(dataset) == [("Chaos Syren", "725280", 1513468800, None)]
    game = dataset.item("725280")
    assert (game.title, game.brand, game.price) == ("Lost Summoner Kitty", "Kotoshiro", 4.99)
    assert dataset.item("761140").price == 0.0 and dataset.item("761140").categories == "RPG"
    assert [note for note in report.notes if "steam_games" in note] == [
        'steam_games.json.gz: 1 of 4 rows have no id, and are left out, for instance "No id" in line 2.',
        "steam_games.json.gz: 1 of 4 rows have a price that is no number, and are read as without one, for "
        'instance "Install Now" in line 4.',
    ]


def test_yelp(tmp_path: Path) -> None:
    dataset, _ = published(tmp_path, "yelp")
    assert events(dataset) == [("mh_-eMZ6K5RLWhZyISBhwA", "XQfwVwDr-v0ZS3_CbbE5Xw", 1531001351, 3.0)]
    business = dataset.item("XQfwVwDr-v0ZS3_CbbE5Xw")
    assert business.categories == "Restaurants ; Breakfast & Brunch ; Food"
    assert business.description == "North Wales, PA"


def test_goodreads_reads_a_rating_of_nought_as_none_and_notes_it(tmp_path: Path) -> None:
    dataset, report = published(tmp_path, "goodreads")
    user, second = str(SHELF["user_id"]), 1376933444
    assert events(dataset) == [(user, "130580", second, None), (user, "7", second, 4.0)]
    book = dataset.item("130580")
    assert (book.title, book.brand, book.categories) == (
        "Runic Astrology", "Ronald J. Fields", "to-read ; poetry",
    )  # fmt: skip
    assert any("have the rating 0, which Goodreads writes where there is none" in n for n in report.notes)
    assert any("1 of 2 items of goodreads_interactions_poetry.json.gz have no row" in n for n in report.notes)
    broken = {**SHELF, "date_added": "yesterday"}
    (tmp_path / "goodreads_interactions_poetry.json.gz").write_bytes(packed(SHELF, broken))
    assert 'line 2, column "date_added": "yesterday" is not a time such as' in refusal(tmp_path)


def test_last_fm_of_a_thousand_users_takes_the_artist_as_the_item(tmp_path: Path) -> None:
    dataset, report = published(tmp_path, "lastfm-1k")
    assert events(dataset) == [
        ("user_000001", 'Underground "Art"ist', 1241445250, None),
        ("user_000001", MBID, 1241478537, None),
        ("user_000002", MBID, 1241445124, None),
    ]
    assert dataset.item(MBID).title == "Deep Dish"
    assert report.notes[:2] == [
        "userid-timestamp-artid-artname-traid-traname.tsv: 1 of 4 rows have no id of their artist, and its "
        'name stands for it, for instance "Underground "Art"ist" in line 2.',
        "userid-timestamp-artid-artname-traid-traname.tsv: 1 of 4 rows name no artist, and are left out, for "
        "instance line 4.",
    ]


@pytest.mark.parametrize("name", ["lastfm-360k", "lastfm-hetrec"])
def test_counts_of_plays_have_no_order_and_are_no_ratings(tmp_path: Path, name: str) -> None:
    dataset, report = published(tmp_path, name)
    assert not dataset.ordered and not dataset.has_ratings and report.ordered_by == "nothing"
    if name == "lastfm-hetrec":
        assert dataset.item("52").categories == "chillout ; café" and dataset.item("51").categories == ""
    else:
        assert dataset.item(MBID).title == "betty blowtorch"


def test_mind_has_the_clicks_of_the_history_before_those_of_the_impressions(tmp_path: Path) -> None:
    dataset, report = published(tmp_path, "mind")
    assert report.notes[0] == (
        "behaviors.tsv: 2 of 5 rows are items that were shown and not clicked, and are no interactions, for "
        'instance "N35729" in line 1.'
    )
    of_user = dataset.events.filter(pl.col("user_id") == "U13740")
    assert of_user["item_id"].to_list() == ["N55189", "N42782", "N55689", "N35729"]
    assert of_user["timestamp"].to_list() == [None, None, 1573463158, 1573506357]
    assert dataset.item("N55189").title == 'The "Brands" Queen'
    assert dataset.item("N55189").categories == "lifestyle > lifestyleroyals"
    (tmp_path / "behaviors.tsv").write_text("1\tU1\t11/11/2019 9:05:58 AM\t\tN55689 N35729\n")
    assert "use the part of MIND that has labels" in refusal(tmp_path)


def test_atomic_files_of_recbole(tmp_path: Path) -> None:
    dataset, report = published(tmp_path, "recbole")
    assert events(dataset) == [("196", "242", 881250949, 3.0)]
    assert dataset.item("242").title == '"Kolya" (1996)'  # RecBole's conversions write quotes as they are
    assert report.notes == [
        'ml.item: read "movie_title" as title, "class" as categories.',
        "ml.item: the fields release_year are not read.",
    ]
    (tmp_path / "ml.inter").write_text("user_id\titem_id\n196\t242\n")
    assert 'the first line names fields as in "user_id:token", and "user_id" has no type' in refusal(tmp_path)


def test_sequences_of_s3rec_and_p5_are_in_the_order_of_their_lines(tmp_path: Path) -> None:
    dataset, _ = published(tmp_path / "s3rec", "s3rec")
    (tmp_path / "s3rec/Beauty.txt").write_text("1 1 27\n")
    notes = read(tmp_path / "s3rec")[1].notes
    assert '1 items have a number beyond 2, the number of items, for instance "27" in line 1' in " ".join(
        notes
    )
    assert any("1 items of Beauty_item2attributes.json are in no sequence" in note for note in notes)
    assert dataset.events.filter(pl.col("user_id") == "1")["item_id"].to_list() == ["1", "2", "3"]
    assert dataset.item("1").categories == "attribute 1 ; attribute 2"
    dataset, _ = published(tmp_path / "p5", "p5")
    of_user = dataset.events.filter(pl.col("user_id") == "A60XNB876KYML")
    assert of_user["item_id"].to_list() == ["B004ZT0SSG", "B0020YLEYK"]
    meta = json.dumps({"asin": "B004756YJA", "title": "OPI Nail Lacquer"}) + "\n"
    save(tmp_path / "p5", {"meta.json.gz": gzip.compress(meta.encode())})
    assert read(tmp_path / "p5")[0].item("B004756YJA").title == "OPI Nail Lacquer"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1 1 2 3 2 3 1\n3 1 2\n", "line 2: user 3 follows user 1"),
        ("1 1 2\n2 x 1\n", 'line 2: "x" is no number'),
        ("1 1 2\n2\n", "line 2: there is a user and no item"),
        ("1 1  2\n", 'line 1: "" is no number'),
    ],
)
def test_a_line_that_is_no_sequence_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    save(tmp_path, {"Beauty.txt": text})
    assert f"Beauty.txt, {fault}" in refusal(tmp_path, layout="s3rec")


def test_a_line_that_ends_with_a_space_is_told(tmp_path: Path) -> None:
    save(tmp_path, {"Beauty.txt": "1 1 2 3\n2 3 \n3 1 2\n"})
    notes = read(tmp_path)[1].notes
    assert any("1 of 3 rows end with a space" in note and "line 2" in note for note in notes)


def test_a_folder_without_the_files_of_its_layout_is_refused(tmp_path: Path) -> None:
    save(tmp_path, {"readme": "x"})
    message = refusal(tmp_path, layout="movielens-1m")
    assert (
        "does not hold the files of MovieLens 1M or 10M (interactions: ratings.dat; items: movies.dat)"
        in (message)
    )
    with pytest.raises(MissingFile, match="nor the files of a published data set"):
        read(tmp_path)
    with pytest.raises(ValueError, match='there is no layout "movielens-2m"; did you mean "movielens-'):
        DataSettings(folder=str(tmp_path), layout="movielens-2m")
    with pytest.raises(ValueError, match="data.layout is that of data.folder; set both"):
        DataSettings(layout="movielens-1m")


def test_two_data_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    save(tmp_path, {"a.inter": RECBOLE["ml.inter"], "b.inter": RECBOLE["ml.inter"]})
    with pytest.raises(UnreadableFile, match="holds both a.inter and b.inter"):
        read(tmp_path)
