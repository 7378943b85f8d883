"""German phrases for the slots of the grammar, in the cases that `demo.german` asks for."""

from demo.sentences import SLOTS

Forms = dict[str, dict[str, str]]  # case -> English -> German


def _pairs(line: str) -> dict[str, str]:
    """Read `english=Deutsch, english=Deutsch`."""
    return {english.strip(): german.strip() for english, german in (pair.split("=") for pair in line.split(","))}


_UNITS = _pairs("one=eins, two=zwei, three=drei, four=vier, five=fünf, six=sechs, seven=sieben, eight=acht, nine=neun")
_TEENS = _pairs(
    "ten=zehn, eleven=elf, twelve=zwölf, thirteen=dreizehn, fourteen=vierzehn, fifteen=fünfzehn, sixteen=sechzehn,"
    "seventeen=siebzehn, eighteen=achtzehn, nineteen=neunzehn"
)
_TENS = _pairs(
    "twenty=zwanzig, thirty=dreißig, forty=vierzig, fifty=fünfzig, sixty=sechzig, seventy=siebzig, eighty=achtzig,"
    "ninety=neunzig"
)
_SMALL = (
    _UNITS
    | _TEENS
    | _TENS
    | {f"{t} {u}": f"{'ein' if u == 'one' else _UNITS[u]}und{_TENS[t]}" for t in _TENS for u in _UNITS}
)
_HOURS = {hour: german for hour, german in (_UNITS | _TEENS).items() if hour in SLOTS["clock"]}
_OF_DAY = _pairs("morning=morgens, afternoon=nachmittags, evening=abends")
_DAY_PART = _pairs("morning=Morgen, afternoon=Nachmittag, evening=Abend")
_WEEKDAYS = _pairs(
    "monday=Montag, tuesday=Dienstag, wednesday=Mittwoch, thursday=Donnerstag, friday=Freitag, saturday=Samstag,"
    "sunday=Sonntag"
)
_WOMEN = ("anna", "emma", "sarah", "maria", "laura", "susan", "alice")


def _times() -> dict[str, str]:
    """List the times of day: half past eight is halb neun."""
    hours = list(_HOURS.items())
    times = {"noon": "zwölf Uhr mittags", "midnight": "Mitternacht"}
    for index, (english, german) in enumerate(hours):
        whole = f"{'ein' if english == 'one' else german} Uhr"
        times[f"half past {english}"] = f"halb {hours[(index + 1) % 12][1]}"
        times[f"quarter past {english}"] = f"Viertel nach {german}"
        times[f"quarter to {english}"] = f"Viertel vor {german}"
        times[f"{english} o'clock"] = whole
        times |= {f"{english} {m}": f"{whole} {_SMALL[m]}" for m in ("thirty", "fifteen", "forty five")}
        times |= {f"{english} in the {part}": f"{whole} {when}" for part, when in _OF_DAY.items()}
    return times


def _spans() -> Forms:
    """List spans of time: `acc` for how long, `dat` after which."""
    counts = {count: _SMALL[count] for count in SLOTS["count"]}
    spans = {
        f"{count} {english}": f"{german} {unit}"
        for english, unit in (("minutes", "Minuten"), ("seconds", "Sekunden"), ("hours", "Stunden"))
        for count, german in ((counts | _TENS) if unit != "Stunden" else counts).items()
    }
    return {
        "acc": spans | {"one hour": "eine Stunde", "half an hour": "eine halbe Stunde"},
        "dat": spans | {"one hour": "einer Stunde", "half an hour": "einer halben Stunde"},
    }


def _days() -> dict[str, str]:
    days = _pairs("today=heute, tomorrow=morgen, tonight=heute Abend, next week=nächste Woche")
    days |= {f"on {english}": f"am {german}" for english, german in _WEEKDAYS.items()}
    days |= {f"this {english}": f"heute {german}" for english, german in _DAY_PART.items()}
    days |= {f"tomorrow {english}": f"morgen {german}" for english, german in _DAY_PART.items()}
    return days | {"tomorrow morning": "morgen früh"}


def _persons() -> Forms:
    """List people, whom one calls (`acc`) and tells (`dat`)."""
    names = {name: name.capitalize() for name in SLOTS["name"]}
    accusative = names | _pairs(
        "my mother=meine Mutter, my father=meinen Vater, my sister=meine Schwester, my brother=meinen Bruder,"
        "the doctor=den Arzt"
    )
    dative = names | _pairs(
        "my mother=meiner Mutter, my father=meinem Vater, my sister=meiner Schwester, my brother=meinem Bruder,"
        "the doctor=dem Arzt"
    )
    for name, german in names.items():
        she = name in _WOMEN
        accusative[f"my friend {name}"] = f"{'meine Freundin' if she else 'meinen Freund'} {german}"
        dative[f"my friend {name}"] = f"{'meiner Freundin' if she else 'meinem Freund'} {german}"
    return {"acc": accusative, "dat": dative}


def _places() -> Forms:
    """List places: at (`at`), towards (`to`), from (`from`) and after (`after`) them."""
    nouns = _pairs(
        "the airport=m Flughafen, the station=m Bahnhof, the hospital=n Krankenhaus, the library=f Bibliothek,"
        "the museum=n Museum, the beach=m Strand, the school=f Schule, the bank=f Bank, the office=n Büro,"
        "the park=m Park, the market=m Markt, the hotel=n Hotel"
    )
    at = {"the airport": "am", "the station": "am", "the beach": "am", "the market": "auf dem"}
    forms: Forms = {"at": {}, "to": {}, "from": {}, "after": {}}
    for english, german in nouns.items():
        she, noun = german[0] == "f", german[2:]
        forms["at"][english] = f"{at.get(english, 'in der' if she else 'im')} {noun}"
        forms["to"][english] = f"{'zur' if she else 'zum'} {noun}"
        forms["from"][english] = f"{'von der' if she else 'vom'} {noun}"
        forms["after"][english] = f"{'der' if she else 'dem'} {noun}"
    own = {"at": "zu Hause, bei der Arbeit", "to": "nach Hause, zur Arbeit", "from": "von zu Hause, von der Arbeit"}
    for case, german in (own | {"after": "dem Haus, der Arbeit"}).items():
        forms[case]["home"], forms[case]["work"] = german.split(", ")
    return forms


def _items() -> Forms:
    """List things to buy: bare, with an article (`nom`, `acc`), none of them (`no`), their price, some of them."""
    nouns = _pairs(
        "milk=f Milch, bread=n Brot, butter=f Butter, cheese=m Käse, eggs=p Eier, apples=p Äpfel, oranges=p Orangen,"
        "bananas=p Bananen, coffee=m Kaffee, tea=m Tee, sugar=m Zucker, rice=m Reis, pasta=p Nudeln, water=n Wasser,"
        "chicken=n Hähnchen, fish=m Fisch, tomatoes=p Tomaten, potatoes=p Kartoffeln, onions=p Zwiebeln,"
        "carrots=p Karotten, salt=n Salz, soap=f Seife, paper=n Papier, batteries=p Batterien"
    )
    articles = {"m": ("der", "den", "keinen"), "n": ("das", "das", "kein"), "f": ("die", "die", "keine")}
    forms: Forms = {"": {}, "nom": {}, "acc": {}, "no": {}, "cost": {}, "some": {}}
    for english, german in nouns.items():
        kind, noun = german[0], german[2:]
        nominative, accusative, none = articles.get(kind, ("die", "die", "keine"))
        forms[""][english] = noun
        forms["nom"][english] = f"{nominative} {noun}"
        forms["acc"][english] = f"{accusative} {noun}"
        forms["no"][english] = f"{none} {noun}"
        forms["cost"][english] = f"{'kosten' if kind == 'p' else 'kostet'} {nominative} {noun}"
        forms["some"][english] = f"{'einige' if kind == 'p' else 'etwas'} {noun}"
    return forms


def _amounts() -> dict[str, str]:
    amounts = {"a bag of": "eine Tüte", "a pound of": "ein Pfund", "more": "mehr"}
    for count in SLOTS["count"]:
        amounts |= {f"{count} bottles of": f"{_SMALL[count]} Flaschen", f"{count} boxes of": f"{_SMALL[count]} Kisten"}
    return amounts


def _genres() -> Forms:
    """List kinds of music: the music itself, a list and a song of it."""
    stems = _pairs("jazz=Jazz, rock=Rock, piano=Klavier, guitar=Gitarren, dance=Tanz")
    adjectives = _pairs("classical=klassisch, quiet=ruhig, happy=fröhlich")
    forms: Forms = {"music": {}, "list": {}, "song": {}}
    for english, stem in stems.items():
        forms["music"][english] = f"{stem}musik"
        forms["list"][english] = f"{stem}liste"
        forms["song"][english] = f"ein {stem}lied"
    for english, adjective in adjectives.items():
        forms["music"][english] = f"{adjective}e Musik"
        forms["list"][english] = f"{adjective}e Liste"
        forms["song"][english] = f"ein {adjective}es Lied"
    return forms


_COLORS = _pairs("red=rot, green=grün, blue=blau, yellow=gelb, white=weiß, orange=orange, purple=lila")
FORMS: dict[str, Forms] = {
    "onoff": {"": _pairs("on=ein, off=aus"), "state": _pairs("on=an, off=aus")},
    "lamp": {"": _pairs("light=das Licht, lights=die Lichter, lamp=die Lampe")},
    "room": {
        "": _pairs(
            "kitchen=in der Küche, bedroom=im Schlafzimmer, bathroom=im Badezimmer, living room=im Wohnzimmer,"
            "garden=im Garten, garage=in der Garage, office=im Büro, hall=im Flur"
        )
    },
    "color": {"": _COLORS, "noun": {english: german.capitalize() for english, german in _COLORS.items()}},
    "small": {
        "": _SMALL | {"one": "eins"},
        "of": _SMALL | {"one": "ein"},
        "miles": {english: f"{german} Meilen" for english, german in _SMALL.items()} | {"one": "einer Meile"},
    },
    "unit": {"": _UNITS},
    "genre": _genres(),
    "updown": {"": _pairs("up=lauter, down=leiser"), "level": _pairs("up=höher, down=niedriger")},
    "span": _spans(),
    "time": {"": _times()},
    "day": {"": _days()},
    "city": {"": {city: city.capitalize() for city in SLOTS["city"]} | {"rome": "Rom", "tokyo": "Tokio"}},
    "person": _persons(),
    "place": _places(),
    "item": _items(),
    "amount": {"": _amounts()},
}
