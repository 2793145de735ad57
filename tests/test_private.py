from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from private_score import Leaving, Score, leaving, score
from private_set import SEED, messages

from roost import private_checks as checks
from roost.private import KINDS, THRESHOLD, find, sensitivity

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"


def kinds(text: str) -> list[tuple[str, str]]:
    return [(item.kind, text[item.start : item.end]) for item in find(text)]


@pytest.mark.parametrize(
    ("kind", "text", "before", "after"),
    [
        ("email", "zhang@qq.com", "我的邮箱是", "请查收"),
        ("email", "ann.o'neil+x@mail.example.co.uk", "Write to ", ", please"),
        ("phone", "13812345678", "电话", "找我"),
        ("phone", "+86 139 1234 5678", "手机", ""),
        ("phone", "(212) 555-7788", "call ", " now"),
        ("phone", "0171 2345678", "Handy ", ""),
        ("phone", "06 12 34 56 78", "au ", "."),
        ("phone", "5551234", "my number is ", ""),
        ("card", "4111111111111111", "卡号是", "的卡"),
        ("card", "4111-1111-1111-1111", "", ""),
        ("card", "3782 822463 10005", "amex ", ""),
        ("iban", "DE89 3704 0044 0532 0130 00", "auf ", " bitte"),
        ("iban", "GB82WEST12345698765432", "账户", "收款"),
        ("id", "11010519491231002X", "身份证", "号"),
        ("id", "659004200102031117", "", ""),
        ("id", "219-09-9999", "my SSN ", ""),
        ("id", "AB 12 34 56 C", "NINO ", ""),
        ("id", "111222333", "BSN: ", ""),
        ("id", "86095742719", "", ""),
        ("id", "269054958815780", "NIR ", ""),
        ("id", "12345678Z", "DNI ", ""),
        ("id", "X1234567L", "", ""),
        ("id", "RSSMRA85T10A562S", "CF ", ""),
        ("id", "85.07.30-033.28", "", ""),
        ("id", "44051401359", "PESEL ", ""),
        ("id", "811218-9876", "", ""),
        ("id", "756.9217.0769.85", "", ""),
        ("id", "529.982.247-25", "CPF ", ""),
        ("id", "2341 2341 2346", "", ""),
        ("id", "A123456789", "", ""),
        ("id", "A123456(3)", "", ""),
        ("id", "S1234567D", "", ""),
        ("id", "131052-308T", "", ""),
        ("id", "C01X00T47", "passport number: ", ""),
        ("ip", "192.168.1.17", "地址", "连不上"),
        ("ip", "2001:db8:85a3::8a2e:370:7334", "from ", ""),
        ("ip", "00:1b:44:11:3a:b7", "mac ", ""),
        ("url", "postgres://app:s3cr3t@db.lan:5432/x", "", ""),
        ("url", "https://api.x.org/v1?token=Ab3dEf6hIj9k", "GET ", ""),
        ("key", "sk-proj-abcdefghijklmnopqrstuvwxyz123456", "这是", "密钥"),
        ("key", "ghp_abcdefghijklmnopqrstuvwxyz0123456789", "", ""),
        ("key", "AKIAIOSFODNN7EXAMPLE", "", ""),
        ("key", JWT, "Bearer ", ""),
        ("key", PEM, "", "\n"),
        ("key", "q7Rz0PmX4vKd81LsWn5TgYb2JcHf", "", ""),
        ("password", "hunter2!", "my password is ", ""),
        ("password", "abc12345", "密码是", "，别说"),
        ("password", "Sommer2024!", "WLAN-Passwort: ", ""),
        ("password", "azerty99", "mot de passe : ", ""),
        ("password", "0000x", "Mi contraseña es ", ""),
        ("birth", "4 July 1987", "I was born on ", ""),
        ("birth", "1987年4月12日", "我的生日是", ""),
        ("birth", "12.03.1990", "geboren am ", " in Bonn"),
        ("birth", "22/11/1958", "née le ", ""),
        ("account", "123456789", "我的QQ是", "，加我"),
        ("account", "wx_abc12", "微信号：", ""),
        ("address", "221B Baker Street, London NW1 6XE", "I live at ", ""),
        ("address", "1600 Pennsylvania Ave NW, Washington, DC 20500", "to ", " please"),
        ("address", "Hauptstraße 5, 10115 Berlin", "in der ", ""),
        ("address", "Keizersgracht 123, 1015 CJ Amsterdam", "naar ", ""),
        ("address", "12 rue de la Paix, 75002 Paris", "au ", ""),
        ("address", "上海市浦东新区世纪大道100号3栋201室", "我住在", "，欢迎"),
        ("name", "John Smith", "ask ", " about it"),
        ("name", "Zorblax Quux", "My name is ", "."),
        ("name", "zorblax", "my name is ", " and I like tea"),
        ("name", "Lachmann", "Frau ", " kommt"),
        ("name", "Loïc Le Gall", "Je m'appelle ", ""),
        ("name", "Иван Петров", "меня зовут ", ""),
        ("name", "张伟", "我叫", "，你好"),
        ("name", "欧阳晓明", "联系人：", ""),
        ("name", "王", "", "老师来了"),
        ("name", "小李", "昨天说", "在家"),
    ],
)
def test_private_data_is_found_exactly_and_nothing_beside_it(kind: str, text: str, before: str, after: str) -> None:
    assert kinds(before + text + after) == [(kind, text)]


@pytest.mark.parametrize(
    "text",
    [
        "Order 12345678 came on 2024-05-06 and weighs 12.5 kg.",
        "Between 2019 and 2022 it rose from 1,250,000 to 2,375,000.",
        "Der Umsatz stieg von 1.250.000 auf 2.375.000 Euro.",
        "At 10:30:15 the build 3.11.4 of the app failed with error 404.",
        "How do I reset my password? My password is wrong.",
        "Will you mark May 3rd? Bill it to the office, Rose said no one ever.".replace("Rose", "someone"),
        "MyVeryLongClassNameInJava2 extends AbstractSingletonProxyFactoryBean",
        "We flew to New York and asked Google Maps about Central Park.",
        "4111 1111 1111 1112",
        "110105194912310021",
        "我很高兴，明天去北京出差，马上回来，方法很简单。",
        "黄山和庐山哪个更好玩？高铁方便吗？任何时候都可以。",
        "密码管理器安全吗？密码是什么？",
        "127.0.0.1 and 0.0.0.0 are this machine",
        "",
    ],
)
def test_what_only_looks_private_is_left_alone(text: str) -> None:
    assert kinds(text) == []


def test_several_pieces_of_one_message_are_found_in_order_none_over_another() -> None:
    text = "收件人：张伟，手机：13812345678，地址：北京市海淀区中关村南大街5号，邮箱zw@qq.com"
    assert [kind for kind, _ in kinds(text)] == ["name", "phone", "address", "email"]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_items_lie_in_the_text_in_order_and_apart(text: str) -> None:
    at = 0
    for item in find(text):
        assert at <= item.start < item.end <= len(text)
        assert item.kind in KINDS
        assert 0 < item.sensitivity <= 1
        at = item.end
    assert 0 <= sensitivity(text) <= 1


BITS = "12-|1 |A|Aa |a.|@a.|a:|://|0:|+1|王|路|1号|市|张伟|一|_|=|eyJ|(|1é|·|\n|my name is |password: "
BITS += "|token=|Von der |John |GB82 |-----BEGIN PRIVATE KEY-----"


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(BITS.split("|")), min_size=1, max_size=4).map("".join))
def test_time_grows_with_the_text_only_so_that_64_kb_of_anything_come_to_an_end(bits: str) -> None:
    find((bits * 65_536)[:65_536])


CHECKED: dict[Callable[[str], bool], str] = {
    checks.luhn: "4111111111111111",
    checks.dutch: "111222333",
    checks.german: "86095742719",
    checks.french: "269054958815780",
    checks.swiss: "7569217076985",
    checks.indian: "234123412346",
    checks.polish: "44051401359",
    checks.brazilian: "52998224725",
    checks.british_health: "9434765919",
    checks.belgian: "85073003328",
}


@pytest.mark.parametrize("check", CHECKED)
def test_one_wrong_digit_fails_the_check(check: Callable[[str], bool]) -> None:
    good = CHECKED[check]
    assert check(good)
    assert not check(good[:-1] + str((int(good[-1]) + 1) % 10))


@pytest.mark.parametrize(
    ("text", "home"),
    [
        ("Tell me a joke about penguins", False),
        ("讲个笑话", False),
        ("My name is Anna Schmidt", False),
        ("Call me at 212-555-7788", False),
        ("I was diagnosed with depression", True),
        ("医生说我得了癌症", True),
        ("Ich bin schwanger", True),
        ("Je suis enceinte", True),
        ("Estoy embarazada", True),
        ("my password is hunter2!", True),
        ("身份证11010519491231002X", True),
        ("Pay with 4111 1111 1111 1111", True),
    ],
)
def test_what_is_most_private_is_for_the_brain_at_home(text: str, home: bool) -> None:
    assert (sensitivity(text) >= THRESHOLD) is home


@cache
def held() -> tuple[Score, Leaving]:
    print(f"seed {SEED}")
    return score(messages("held")), leaving(messages("held"))


@pytest.mark.parametrize(
    ("language", "recall", "precision"),
    [("en", 0.96, 0.97), ("zh", 0.96, 0.98), ("de", 0.86, 0.97), ("fr", 0.9, 0.97), ("es", 0.86, 0.97)],
)
def test_of_messages_it_was_not_tuned_on_the_detector_finds_what_the_docs_say(
    language: str, recall: float, precision: float
) -> None:
    found, _ = held()
    assert found.recall(language) >= recall, found.missed
    assert found.precision(language) >= precision, found.wrong


@pytest.mark.parametrize("kind", ["email", "phone", "card", "iban", "id", "ip", "url", "key", "password", "birth"])
def test_what_has_a_form_is_nearly_always_found(kind: str) -> None:
    found, _ = held()
    assert found.recall("all", kind) >= 0.97, found.missed


def test_the_router_keeps_nine_in_ten_private_items_from_leaving_and_more() -> None:
    _, left = held()
    assert left.routed / left.items <= 0.07
    assert left.hidden / left.items <= 0.08
    assert left.kept < left.messages / 2


def test_the_two_parts_of_the_set_share_no_message_and_the_set_is_the_same_each_time() -> None:
    tuned, unseen = messages("tuned"), messages("held")
    assert messages("held") == unseen
    assert not {one.text for one in tuned if one.labels} & {one.text for one in unseen}
    assert len(tuned) + len(unseen) > 900
