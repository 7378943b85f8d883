"""The sentences of the demonstration: a small grammar of everyday English commands and questions.

A template is a line of words in which `{slot}` stands for one of the slot's phrases, itself perhaps a template. What a
template is listed under is its intent: the label that the classifier learns. `GENERAL` lines are spoken and written
down, yet belong to no label.
"""

import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

INTENTS = ("alarm", "call", "lights", "music", "navigation", "number", "shopping", "weather")
GENERAL = "general"
RANDOM_WORDS = "random"

_NAMES = (
    "anna",
    "david",
    "emma",
    "peter",
    "sarah",
    "thomas",
    "maria",
    "robert",
    "laura",
    "michael",
    "susan",
    "george",
    "alice",
    "oliver",
)
_WORDS = {
    "digit": "zero one two three four five six seven eight nine",
    "teen": "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
    "tens": "twenty thirty forty fifty sixty seventy eighty ninety",
    "unit": "one two three four five six seven eight nine",
    "count": "two three four five six seven eight nine ten twelve twenty",
    "clock": "one two three four five six seven eight nine ten eleven twelve",
    "part": "morning afternoon evening",
    "weekday": "monday tuesday wednesday thursday friday saturday sunday",
    "month": "january february march april may june july august september october november december",
    "color": "red green blue yellow white orange purple",
    "name": " ".join(_NAMES),
    "genre": "jazz rock classical piano guitar dance quiet happy",
    "city": "london paris berlin madrid rome dublin boston chicago sydney tokyo",
    "item": "milk bread butter cheese eggs apples oranges bananas coffee tea sugar rice pasta water chicken fish "
    "tomatoes potatoes onions carrots salt soap paper batteries",
    "lamp": "light lights lamp",
    "onoff": "on off",
    "updown": "up down",
    "polite": "please",
}
_PHRASES = {
    "small": "{unit}|{teen}|{tens}|{tens} {unit}",
    "hundreds": "{unit} hundred|{unit} hundred and {small}|{unit} thousand|{unit} thousand {unit} hundred",
    "digits": "|".join(" ".join(["{digit}"] * count) for count in (3, 4, 5, 6)),
    "half": "half past {clock}|quarter past {clock}|quarter to {clock}|{clock} o'clock",
    "time": "{half}|{clock} thirty|{clock} fifteen|{clock} forty five|{clock} in the {part}|noon|midnight",
    "day": "today|tomorrow|tonight|on {weekday}|this {part}|tomorrow {part}|next week",
    "span": "{count} minutes|one hour|{count} hours|{count} seconds|half an hour|{tens} seconds|{tens} minutes",
    "room": "kitchen|bedroom|bathroom|living room|garden|garage|office|hall",
    "person": "|".join(_NAMES) + "|my mother|my father|my sister|my brother|the doctor|my friend {name}",
    "place": "the airport|the station|the hospital|the library|the museum|the beach|the school|the bank|the office|"
    "the park|the market|the hotel|home|work",
    "amount": "{count} bottles of|a bag of|some|{count} boxes of|a pound of|more",
}
SLOTS: dict[str, list[str]] = {name: line.split() for name, line in _WORDS.items()}
SLOTS |= {name: line.split("|") for name, line in _PHRASES.items()}

TEMPLATES: dict[str, list[str]] = {
    "lights": [
        "turn {onoff} the {room} {lamp}",
        "switch {onoff} the {lamp} in the {room}",
        "turn the {room} {lamp} {onoff}",
        "please turn {onoff} all the lights",
        "make the {room} {lamp} {color}",
        "set the {room} {lamp} to {small} percent",
        "change the {lamp} in the {room} to {color}",
        "dim the lights in the {room}",
        "could you turn {onoff} the {lamp} in the {room}",
        "are the {room} lights {onoff}",
        "it is too dark in the {room}",
        "it's too bright in the {room}",
    ],
    "music": [
        "play some {genre} music",
        "play {genre} music in the {room}",
        "play the next song",
        "stop the music in the {room}",
        "turn the music {updown}",
        "turn {updown} the volume",
        "set the volume to {small}",
        "play my {genre} list",
        "i want to listen to {genre} music",
        "what is the name of this song",
        "play that song again {polite}",
        "pause the music for {span}",
        "let's hear some {genre} music {day}",
        "play a {genre} song for {person}",
    ],
    "alarm": [
        "set an alarm for {time}",
        "wake me up at {time}",
        "wake me at {time} {day}",
        "set a timer for {span}",
        "start a timer for {span} {polite}",
        "cancel my alarm for {time}",
        "remind me in {span}",
        "how much time is left on the timer",
        "i need an alarm at {time} {day}",
        "stop the timer",
        "add {span} to the timer",
        "change my alarm to {time}",
    ],
    "weather": [
        "what's the weather in {city} {day}",
        "what is the weather like {day}",
        "will it rain {day}",
        "will it rain in {city} {day}",
        "is it going to snow {day}",
        "how cold is it in {city}",
        "how warm will it be {day}",
        "do i need a coat {day}",
        "should i take an umbrella {day}",
        "is it sunny in {city}",
        "how strong is the wind in {city} {day}",
        "will there be a storm {day}",
    ],
    "call": [
        "call {person}",
        "call {person} at {place}",
        "please call {person} {day}",
        "send a message to {person}",
        "tell {person} i'm late",
        "tell {person} that i will be home at {time}",
        "read my last message from {person}",
        "call {person} back in {span}",
        "do i have any messages from {person}",
        "write to {person} that i am at {place}",
        "answer the phone {polite}",
        "ask {person} to call me {day}",
    ],
    "navigation": [
        "how far is it to {place}",
        "take me to {place}",
        "show me the way to {place}",
        "drive to {place} in {city}",
        "how do i get to {place} from {place}",
        "what is the fastest way to {city}",
        "find a hotel near {place}",
        "turn left in {small} miles",
        "turn right after {place}",
        "when is the next train to {city}",
        "how long does it take to walk to {place}",
        "is there a bus to {place} {day}",
        "where is the closest restaurant",
    ],
    "shopping": [
        "add {item} to my shopping list",
        "put {item} and {item} on the list",
        "we need {amount} {item}",
        "buy {amount} {item}",
        "please order {amount} {item}",
        "remove {item} from the list",
        "i want to buy {amount} {item} {day}",
        "how much does the {item} cost",
        "do we have any {item} left",
        "don't forget the {item} and the {item}",
        "we are out of {item}",
        "what is on my shopping list",
    ],
    "number": [
        "my number is {digits}",
        "the code is {digits}",
        "what is {small} plus {small}",
        "what is {small} minus {small}",
        "what is {small} times {unit}",
        "how much is {hundreds}",
        "the answer is {hundreds}",
        "dial {digits}",
        "{digits}",
        "my room number is {hundreds}",
        "count from {unit} to {small}",
        "the number is {small} point {digit} {digit}",
        "my birthday is {month} {small}",
    ],
    GENERAL: [
        "my name is {name}",
        "hello {name} how are you",
        "good {part} {name}",
        "what is your name",
        "can you help me {polite}",
        "thank you very much",
        "i don't know what you mean",
        "open the window in the {room}",
        "close the door {polite}",
        "{name} and {name} are at {place}",
        "where were you on {weekday}",
        "the meeting is on {weekday} at {time}",
        "we will see {person} in {month}",
        "what time is it in {city}",
        "he said that it was a good book",
        "she has a {color} car and a {color} house",
        "the {color} box is under the table",
        "they went home with {person} {day}",
    ],
}
# Words that only their neighbours tell from another one ("four", "two"), or that are a mere murmur alone.
_NEVER_ALONE = {"for", "to", "too", "a", "an", "of", "right", "write", "read"}
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Sentence:
    """What is spoken, and its intent, `general` or `random`."""

    text: str
    intent: str


def expand(template: str, rng: random.Random) -> str:
    """`template` with every slot filled, slots within slots included."""
    while match := _SLOT.search(template):
        template = template[: match.start()] + rng.choice(SLOTS[match[1]]) + template[match.end() :]
    return template


def fillings(template: str) -> int:
    """Count the sentences of `template`; where phrases coincide, they count twice."""
    return math.prod(sum(map(fillings, SLOTS[slot])) for slot in _SLOT.findall(template))


def vocabulary() -> list[str]:
    """Every word of the grammar, sorted."""
    lines = [line for group in (*SLOTS.values(), *TEMPLATES.values()) for line in group]
    return sorted({word for line in lines for word in _SLOT.sub(" ", line).split()})


def sentences(rng: random.Random, random_share: float = 0.0) -> Iterator[Sentence]:
    """Draw sentences without end; a `random_share` of them are words in no order, so that words are learnt as well."""
    words = [word for word in vocabulary() if word not in _NEVER_ALONE]
    intents = [*INTENTS, GENERAL]
    while True:
        if rng.random() < random_share:
            yield Sentence(" ".join(rng.choices(words, k=rng.randint(2, 6))), RANDOM_WORDS)
        else:
            intent = rng.choice(intents)
            yield Sentence(expand(rng.choice(TEMPLATES[intent]), rng), intent)


def distinct(count: int, rng: random.Random, without: set[str], random_share: float = 0.0) -> list[Sentence]:
    """`count` sentences, no text twice and none that is in `without`."""
    found: dict[str, Sentence] = {}
    for sentence in sentences(rng, random_share):
        if sentence.text not in without:
            found.setdefault(sentence.text, sentence)
        if len(found) == count:
            break
    return list(found.values())
