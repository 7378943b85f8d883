"""The commands of the grammar in German: a closed translation, template by template.

`translate` finds the English template that a sentence is made of and fills in the German one, in which `{slot.case}`
stands for the phrase in that case. Numbers as such and small talk have no translation, nor have the few commands
whose German needs a comma. Sentences begin with a capital and end without a mark.
"""

import re
from collections.abc import Mapping
from functools import cache

from demo.german_phrases import FORMS

GERMAN: Mapping[str, str] = {
    "turn {onoff} the {room} {lamp}": "schalte {lamp} {room} {onoff}",
    "switch {onoff} the {lamp} in the {room}": "schalte {lamp} {room} {onoff}",
    "turn the {room} {lamp} {onoff}": "schalte {lamp} {room} {onoff}",
    "please turn {onoff} all the lights": "schalte bitte alle Lichter {onoff}",
    "make the {room} {lamp} {color}": "mache {lamp} {room} {color}",
    "set the {room} {lamp} to {small} percent": "stelle {lamp} {room} auf {small.of} Prozent",
    "change the {lamp} in the {room} to {color}": "stelle {lamp} {room} auf {color.noun}",
    "dim the lights in the {room}": "dimme die Lichter {room}",
    "could you turn {onoff} the {lamp} in the {room}": "könntest du {lamp} {room} {onoff}schalten",
    "are the {room} lights {onoff}": "sind die Lichter {room} {onoff.state}",
    "it is too dark in the {room}": "es ist {room} zu dunkel",
    "it's too bright in the {room}": "es ist {room} zu hell",
    "play some {genre} music": "spiele etwas {genre.music}",
    "play {genre} music in the {room}": "spiele {genre.music} {room}",
    "play the next song": "spiele das nächste Lied",
    "stop the music in the {room}": "stoppe die Musik {room}",
    "turn the music {updown}": "mache die Musik {updown}",
    "turn {updown} the volume": "stelle die Lautstärke {updown.level}",
    "set the volume to {small}": "stelle die Lautstärke auf {small}",
    "play my {genre} list": "spiele meine {genre.list}",
    "i want to listen to {genre} music": "ich möchte {genre.music} hören",
    "what is the name of this song": "wie heißt dieses Lied",
    "play that song again please": "spiele dieses Lied bitte noch einmal",
    "pause the music for {span}": "unterbrich die Musik für {span.acc}",
    "let's hear some {genre} music {day}": "lass uns {day} etwas {genre.music} hören",
    "play a {genre} song for {person}": "spiele {genre.song} für {person.acc}",
    "set an alarm for {time}": "stelle einen Wecker auf {time}",
    "wake me up at {time}": "wecke mich um {time}",
    "wake me at {time} {day}": "wecke mich {day} um {time}",
    "set a timer for {span}": "stelle einen Timer auf {span.acc}",
    "start a timer for {span} please": "starte bitte einen Timer für {span.acc}",
    "cancel my alarm for {time}": "lösche meinen Wecker für {time}",
    "remind me in {span}": "erinnere mich in {span.dat}",
    "how much time is left on the timer": "wie viel Zeit bleibt noch auf dem Timer",
    "i need an alarm at {time} {day}": "ich brauche {day} einen Wecker um {time}",
    "stop the timer": "stoppe den Timer",
    "add {span} to the timer": "verlängere den Timer um {span.acc}",
    "change my alarm to {time}": "stelle meinen Wecker auf {time}",
    "what's the weather in {city} {day}": "wie ist {day} das Wetter in {city}",
    "what is the weather like {day}": "wie ist {day} das Wetter",
    "will it rain {day}": "wird es {day} regnen",
    "will it rain in {city} {day}": "wird es {day} in {city} regnen",
    "is it going to snow {day}": "wird es {day} schneien",
    "how cold is it in {city}": "wie kalt ist es in {city}",
    "how warm will it be {day}": "wie warm wird es {day}",
    "do i need a coat {day}": "brauche ich {day} einen Mantel",
    "should i take an umbrella {day}": "soll ich {day} einen Regenschirm mitnehmen",
    "is it sunny in {city}": "ist es in {city} sonnig",
    "how strong is the wind in {city} {day}": "wie stark ist {day} der Wind in {city}",
    "will there be a storm {day}": "wird es {day} einen Sturm geben",
    "call {person}": "rufe {person.acc} an",
    "call {person} at {place}": "rufe {person.acc} {place.at} an",
    "please call {person} {day}": "rufe bitte {day} {person.acc} an",
    "send a message to {person}": "sende eine Nachricht an {person.acc}",
    "tell {person} i'm late": "melde {person.dat} meine Verspätung",
    "read my last message from {person}": "lies meine letzte Nachricht von {person.dat} vor",
    "call {person} back in {span}": "rufe {person.acc} in {span.dat} zurück",
    "do i have any messages from {person}": "habe ich Nachrichten von {person.dat}",
    "answer the phone please": "geh bitte ans Telefon",
    "ask {person} to call me {day}": "bitte {person.acc} {day} um einen Anruf",
    "how far is it to {place}": "wie weit ist es {place.to}",
    "take me to {place}": "bringe mich {place.to}",
    "show me the way to {place}": "zeige mir den Weg {place.to}",
    "drive to {place} in {city}": "fahre {place.to} in {city}",
    "how do i get to {place} from {place}": "wie komme ich {place2.from} {place.to}",
    "what is the fastest way to {city}": "was ist der schnellste Weg nach {city}",
    "find a hotel near {place}": "finde ein Hotel in der Nähe {place.from}",
    "turn left in {small} miles": "biege in {small.miles} links ab",
    "turn right after {place}": "biege nach {place.after} rechts ab",
    "when is the next train to {city}": "wann fährt der nächste Zug nach {city}",
    "how long does it take to walk to {place}": "wie lange geht man zu Fuß {place.to}",
    "is there a bus to {place} {day}": "fährt {day} ein Bus {place.to}",
    "where is the closest restaurant": "wo ist das nächste Restaurant",
    "add {item} to my shopping list": "setze {item} auf meine Einkaufsliste",
    "put {item} and {item} on the list": "setze {item} und {item2} auf die Liste",
    "we need {amount} {item}": "wir brauchen {amount} {item}",
    "we need some {item}": "wir brauchen {item.some}",
    "buy {amount} {item}": "kaufe {amount} {item}",
    "buy some {item}": "kaufe {item.some}",
    "please order {amount} {item}": "bestelle bitte {amount} {item}",
    "please order some {item}": "bestelle bitte {item.some}",
    "remove {item} from the list": "streiche {item} von der Liste",
    "i want to buy {amount} {item} {day}": "ich möchte {day} {amount} {item} kaufen",
    "i want to buy some {item} {day}": "ich möchte {day} {item.some} kaufen",
    "how much does the {item} cost": "wie viel {item.cost}",
    "do we have any {item} left": "haben wir noch {item}",
    "don't forget the {item} and the {item}": "vergiss {item.acc} und {item2.acc} nicht",
    "we are out of {item}": "wir haben {item.no} mehr",
    "what is on my shopping list": "was steht auf meiner Einkaufsliste",
    "what is {small} plus {small}": "was ist {small} plus {small2}",
    "what is {small} minus {small}": "was ist {small} minus {small2}",
    "what is {small} times {unit}": "was ist {small} mal {unit}",
}
_SLOT = re.compile(r"\{(\w+)\}")
_FORM = re.compile(r"\{([a-z]+)(2?)\.?(\w*)\}")


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Compile one pattern for each English template; a slot that comes twice is the group `slot2` the second time."""
    patterns = []
    for english, german in GERMAN.items():
        pattern, seen = "", set()
        for index, part in enumerate(_SLOT.split(english)):
            if index % 2 == 0:
                pattern += re.escape(part)
                continue
            phrases = sorted(next(iter(FORMS[part].values())), key=len, reverse=True)
            pattern += f"(?P<{part}{'2' if part in seen else ''}>{'|'.join(map(re.escape, phrases))})"
            seen.add(part)
        patterns.append((re.compile(pattern), german))
    return patterns


def translate(english: str) -> str | None:
    """German for a sentence of the grammar, or None where it has no translation."""
    for pattern, german in _patterns():
        if match := pattern.fullmatch(english):
            filled = _FORM.sub(lambda form: FORMS[form[1]][form[3]][match[form[1] + form[2]]], german)
            return filled[0].upper() + filled[1:]
    return None
