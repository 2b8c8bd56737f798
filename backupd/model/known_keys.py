"""Keys that anybody can use: a signature by one proves nothing, and what is sealed to one is open to everybody.

They are refused wherever somebody says whom to trust: in the configuration, on the command line, in key files, and
where a repository names its own signers. Documents signed by such a key are then never believed, because nobody trusts
it.

The known keys are those of seeds that people type (one byte repeated, a small number, bytes that count up or down, the
first seeds of RFC 8032 section 7.1), and the points of small order of Ed25519: under those, a constant of 64 bytes
passes as the signature of one message in eight or more. For each public key the list holds the first 8 bytes of
SHA-256, so that reading a configuration computes no key; the tests derive the list again.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterator
from typing import Final

_WIDTH = 8
"""Bytes of each digest in the list."""
_LARGEST_NUMBER = 32
"""Seeds that are a number up to this one are known."""
_RFC_8032: Final = (
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
    "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
)
_FIELD = 2**255 - 19
_ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"


def known_seeds(size: int) -> Iterator[bytes]:
    """Yield every seed of `size` bytes that somebody might type; for 32 bytes also those printed in RFC 8032."""
    yield from (bytes([byte]) * size for byte in range(256))
    for number in range(1, _LARGEST_NUMBER + 1):
        yield number.to_bytes(size, "big")
        yield number.to_bytes(size, "little")
    for first in (0, 1):
        yield bytes(range(first, first + size))
        yield bytes(range(first, first + size))[::-1]
    yield from (seed for seed in map(bytes.fromhex, _RFC_8032) if len(seed) == size)


def small_order_points() -> Iterator[bytes]:
    """Yield every encoding of an Ed25519 point whose order divides 8, also those that are not canonical."""
    eighth = int.from_bytes(bytes.fromhex(_ORDER_8), "little")
    for y in (0, 1, _FIELD - 1, _FIELD, _FIELD + 1, eighth, _FIELD - eighth):
        yield y.to_bytes(32, "little")
        yield (y | 1 << 255).to_bytes(32, "little")


def digest(public: bytes) -> bytes:
    """Return the 8 bytes that represent a public key in the list."""
    return hashlib.sha256(public).digest()[:_WIDTH]


def is_known(public: bytes) -> bool:
    """Check whether anybody can sign as this signer, or read what is sealed to this recipient."""
    return digest(public) in _digests()


def is_known_signer(public_hex: str) -> bool:
    """Check whether anybody can sign as this signer, whose key is written as 64 hex digits."""
    return is_known(bytes.fromhex(public_hex))


def is_known_seed(secret: bytes) -> bool:
    """Check whether a secret is one that somebody might type."""
    return secret in known_seeds(len(secret))


@functools.cache
def _digests() -> frozenset[bytes]:
    listed = base64.b64decode(_LISTED)
    return frozenset(listed[at : at + _WIDTH] for at in range(0, len(listed), _WIDTH))


_LISTED: Final = (
    "AJRFN+nwsmQA4Ai7krX1FwEdc4F9AkVLASNSaUr4GXsB0Pq9JR/LvgIBQ9jaRg5OAipztdKHn14CLhj0MsDIQAI2935DUyttArOMMsT4sU4D"
    "Lvi4N6QO1QQQNty/6bmeBCmiarVtrL4EcjdgyfUk0gVFpU6SQNUwBeM6eiXcOasHE5siMkZs5wefnfDUERuzB9SFdlK90jAIe7r4JUl8Fgjd"
    "K7ibwGaLCUh0gZorBfcKE/9REpQF0wopvflep4JQCmTo41zw0awKj8hXYxSdAQrpDjYOCt6EDAY0rAYiDwwMT/OaWXrRAwzEImOr+3VGDQ1D"
    "y4GSLbQND+xHma6HTg00/Q2ZlXxTDTs1obc5mQINrrI9/iGdSQ4bTg0WW+2FDi+MdhYHn1QORvmJC/FrEw5qbsZ9mpNbD23Fd4ILQj0QKsoX"
    "Lvf/GhC6aCyK0TUTEQZ5yYLMOiwRnZ7HiCTt+xGt1odF+guIEq4d018PnqYSsoPglflXmxMluFDChxkWE2rOxBFPZM8TgSMaICHzMRODl+ap"
    "/5kuE436InI06l8TkEVVJDKPLhOeOUDmS1SRE7eHAygogYATzRgU0K6ILRPtO/X9moMJFBmfRbHFDzkUHd8ud9T2kBTmUzNS942pFRp9qs91"
    "YuoVSOQNBiD8whYTYwC4LVH5FoxZpUoNW2wW3Fo0FlqD2xb3xuR1Q2HJF3kULQi02FwXeh9Z1TjYdxeQqrdsDFRzGFw8cSCM/SEY1AHmGNld"
    "cxkbn/gQKytHGT9J+DqWtrkZ5E1zDC3hCxoJpqG4XOx3GmY3U5v+fTgb6OCnd5/JCRwUm00bG9muHIYXB/sf/XYczSIw/bN5WxzZuw8k9LKA"
    "HPMS43M8Hqcedvl8DHXSZh6WdIAJ9OrrH1/mTsL4yQEfnxoMh7oDgR+q+kkX4XctIDBZwjKH5n0gb0HWH1XC8CCTCrZMrOlOIf4x36FUomEi"
    "bat9MY6sICLJg2yQOcPhIs09kQbKVvsi6nt87OvVsCL0AEkzgmL0IwvxUK8oZGwjOaT7CctEHCOs1GG70+1PJKVmZGVNMewkqipVie3LVySw"
    "Og44GKSeJf69BL4UAcQmO7Kmvw9LhCapAynSKmGRJvPPxOR/cDYnjzxhfpUG8yfPAUBkEcwjKEBy4RouKQIopfbO3TO/ICje/Nd/zDf9KQLZ"
    "hgER2qMpKktQV2dSAimWfnd8CzX0KZ0A+NcJTf8p9OFMwUJqCio0JkmU5WbpKq2QdOwQqtkqy+6ZY47LZCrSaUrOBK2wKyqO889ccTArYfDs"
    "eisjUiue8cWPueiIK75OXas4LjYsJYgTDEUzsSxaku2SwLeZLHssCOeKCi0tFC8JY2IpbS07ue+XbUB5LaTnpeyPBnovCHt1lmxj5y9L47Lk"
    "aGA1L/kCPFKzUxwwV1Tpv/iCMzCX4t7iy0o0MWRfDyV1+G0yCAGGHFW24jJB2yU75tahM0DfVMtBxGAzTbpGNcQ2gjR1D5i9Wfz8NTHGC3jU"
    "sds1N1iNH/FwfTVLYsklvL/rNfD3Iko5/lY24j5eqHlKJjcMwiWzQBH0N4BDHrNcdOA4Fu7iFO4iXDiHKP9GXoXvOJ+WWozeoNI49ywPJNe/"
    "fTkKSUjG46DJOfcT0KZEJT86W3Gu9v2jOjpboNN8hI9LPNoeYL/u4+M9fXOLUyaxCT2Ej7t4AO1lPZVLsaA8gZs+MWnH9sO8Ej6hRuPM83+w"
    "Pq5fYAWQcOg+wcMFoOXEOz+c6aRDxDSnQHHNZX4wMwhBE4iMqRxr2kP/F1iXtZ69RI8E/8uodNtFEldTfjojRUWLsqAgy1zvRbU46hq6kQNF"
    "udFbW+4WmkbQ6Ia6tKFVRwrKi+wQYXpH2y27xHdCg0g2asQHdBQWSERmgx3eJ/RIhfgVwIcEyEiStMpb8sqZSJ9E2ZIZlXZIzKl/iZP/rkjg"
    "Ue9od0I8STxrBRBOzy1JXivaJD9JDUnf6q/rvdijSeJNzcZ5XeJKMP995oiXFkpnMwuAPVyISsSJNossiMZLc1rBdOQGNkvV/xj1PqqtTFql"
    "WyjP60NOAa5WmDC1C05AEgtyH007TrN1yfepo+FPoo60uonKU1Bu8YeddIzgUHJyRgGqH6RQsS8QivyQDlCy8IiuZlaeUfuIopqIukxSBAEE"
    "iMozOFIWipwZLG0VUmZg4/tNAOlSklUNjA9lElKrWdiOx8Q8U5Vdn5zVgsxTnwyJ873iblPnlIUyIujXVEnJasbmu9pUnIBH0cryuFWiwdVO"
    "p3QqVcDA0n3KaGdV8dCIWI6BpFX83NjBQrRAVjzcw4vpzY1WR1qnVGNHTFb64S93FkYnV2fX4W9MjAZX7iNBd5Rc3Vg4O3s83WJYWNBtTX2/"
    "bUBZIHqQWWF+ZVlAjVO74oPTWU/O9l3s+HRZosgUNxqN71mi+HGBzRhjWazLVkRDDiBZsq1hMadNA1qFAzbA8zPtW0GzBN/WBSxbrlrfHeSi"
    "/Fwpt48Qo1pJXNNUMVa7Tl9c80/KXYPp314rChL8kYtbXwEZHdXdp5dfI7pmpipq719C5eJKLMS5X5skfiplRxlgNQ8lov+YzGEyUF3OdtKN"
    "Yfgj2PFdpYJi4of1ooxnZWLnH68KjyDbY3dDEm9+fRNjeUo7+IdawmPtldZg4Hy5ZE4YfSAeJrtkc9oAsO/2QGTFKfodlRdSZSe5j9rbNkNl"
    "XGpzu6vrcGVjPwgqtY5fZbYGc9btiEtmJ/E9ioWcomZoeq34Yr13ZqMi6mHMFqdnzJ2aHkcrWWiUMNtC2pxzaLnlXukyPNdo03/fwd1Aa2kI"
    "/oGfggaaaZ8RIZQkb3RqEmFH2oCKK2oe9/VoiAqTajgD1fBZkCpqdnkCkqRwnmqRM9o0mfYrapGSiuBRajRq6d+C0cpUmGvK0LQNQMnFa+KN"
    "gTA+oYlsj4YH2+hwd209jrnojk5wbUmCoEJtZYhtmm5gYokvz250Xnr+TxRRbx5bYe2aghRvjBrD66Zrhm/+wSUytijFcCdqKxely/BwYptG"
    "uqoVP3DfM2pKNQEwcPsdZJzh3/RxhX0dLT0+JHGhdaNh04czcdrFRzUntsRyRWcgQSA3pnJ4VixSAgY5ct+eav3ComNzAMCuFCnNFXMKXtwo"
    "wvjacyKyAizd4Th0HAbGPHZKsnRZkPGeDErhdLmtYgM/LXt0xMOjvZsWJXUALldNB1+BdVeJ+HcEbfZ1mXdsMIXj+XZfZAKT7LcPdmXwWcdt"
    "4T53PSHNmlAUnndhgpcKXq2Cd7MXYkQOq1p30X5YdxjHPnhV8my0TvN7eFeWiJR95FN5CQG4Kon+UHle1f/pA5v1eaKqiXB9snt5wFwYoRyf"
    "pHn0DC3Ay10fefs470FOvtV6DHkj26D6R3pkwzN7Elr/es0iCzLB3At605pyjv7z43xDs1xL0V6FfLjE7rqGXwt9qusjSK3p7H2sa6D5s2rf"
    "fbCwHznReap9yibwJnWKO33daxfwYxKyftHlhrTa/Yh+2Vc06j3DU37dtOusoAPrfzIVodPiD7B/51fQrOGw5H/xhvn8mNkOgE2ADADdVSmA"
    "Wvx2DRs1AYCJX19oerw1gVP1vC6280CB68I8Wp3WE4NouQxmf7jKg5LzPbX8EViDq2Wdrz1bPYP38RUCunFZhIuOWPnNrnyE7/gW+/xEa4T9"
    "X1uJwUgZhY+PZP51yRuFmcNeqTWi4YWfsvnkr0S4hgkec7puj02GEUkhGzr9ZoZ+Cu5tCGuThqeSNoz+NCyHzbfxQWdMuYfuc4N9S6AgiDtU"
    "s4rzaa+KOCwqM+QsT4pHz1bEtCCnimoEJAiOcMeLH757YZERYotm5cUf8nv1i4HIYmgbcSuL5Nyi80puDIz2LM6j1FVAjQA83c0tqISNL0+y"
    "FvDUeo0/Y2zHhIrGjUC+C4YF7hCNWaqXuir/GI8dTr4Q3Dt0j17AwaQkfFSP9gel8V6NBpE4TEEeWvKWkVPJFB22CRuRiPZfbiBni5G945I5"
    "f/M9kkLPRJ+FjCCSbGJBwSwjx5OVUhuAf9Hgk7yoI+XIJBmT840ONKnv3ZWagBkfdkD5lp77WqaHDLGW16FnHQA87pc/za0msmgvmGZesfRH"
    "Zq6YZ/KXPETza5lWyxlmLSGOmWdjp6mClSmZaFaRbb/cPpmA4kQcXRNLmb4fFz6DsAKZwjVWabrnipoWNWbRWE1+mhn8nzRcn96ajk+C1iSQ"
    "qJqS0rVKmlQCm2oMkFl+sDubyxtn+XP3cZvnnLubY42Mm+lBpea4YOWcEWXhAcG64px2WsFRTzronIieQiFTAgSciw/AlBEdv5yZkAI6FIU7"
    "nPA28lsnpJydTrNMuYbHhJ4gzV8z8lPDnk35S0WAqN2evchQsa+teJ83omtOerPIn0VgMH3E8qKfiz3s+EDC25+mzGqm8mEDoMfB7jVrhZqh"
    "I4/y4j5gSqHVdzUKlZ7NoedFHkmXdWyiOSlE2CRmt6Kgiy3jqXTtotDfpPiwAoyjR+8KzCMk+KNyyVmLizggo8dh5W1V9F6kDMHujfqm3KQ+"
    "Ey1qBREzpMD8oiP/uAikzrYYW2wi1aTb/UjkHVzrpPmIAsFSIlalEdSbbNT9vaX1YMQh97q6pmFrnP/nnS2mxVkaa1ug/6bjXUYw8vIsqAS6"
    "/BEHt1eoLsvCZAlRR6hfU/pBTbR2qTkkmotRiRmqsGHaeRKGo6r0EqW5WDO0qx+ENq/KvCSsd9isM9J9pq4gWpa6lnVrrr7cbGyuJgCvgilY"
    "8tda+6+k6jt7qSh+sAZjWdZPl+uwyBqcBc5ZEbDXFGjqFEfQsUcFiI9KaDmxgEBdpt08KLG7hSxCFR5psc5d9YMjqRqxzrOCKQdetrHj/ySv"
    "zZzLsoPF1TzfKliyi6qzPh+Vp7LqvnA8ZCXZswC6hISl6LWzJGLlIWCn0bOqoSZroWins/M540fh0Guz+oOdvPLxhbQf2JT5bsittFRJ86Z7"
    "+oi0Wf+P139OZrSXENnBMuT9tJlBoU9UFxu0t+S1q75v2bS9lBL38xNatMHs6Jjs4k61AAPgzI7hQ7UBJ5OgAgIotTYkE20XmpW1pRwIN8zE"
    "X7YAMGz6dnI/ti6Gf6LzOv62WS3wTISAMbaFnIxbcbJttvyWGRq9J6+4MGRlNsPEpLiMmTalkPrFufAVXLDcqRa6C779tZu0Qbrt8GSCiQ4c"
    "uxkfQCgH3le7XD2l5l8mZb0dFi/cLccYvWF0p8FuGvC9tVQNvZ2c075baqBSq4tfv16Kv0nxO4S/5fhTC7hLjsApCuLkMbB0wFZ2ya0CmqbA"
    "dCp5e9U3Q8F5jT+35EN7wlUk3oLYcMDCbJZgjN/tJcKlClPPYRRgwra/aI+4vgDC/AOJKE1sxsMZaT4MwSMqw6H0gFNM/NrER/QhUze2v8T0"
    "K7CAvGSHxPS9tM1kK8XFjJIVi8fqicW5QO0/ZcORxhB8GELCBEnGTjkf7ppw2MeDCbL4kklMx7mzDos0QRjIUJ1+Feul78i0Txo+S5/hyb/B"
    "kK4X67TJzTQpDAJbhMp6cIhUlAYKys+cHzTaUQLLBmNYvO6FSMwMf/w62fWazCzP+H06WvzMke/mJFy7bMy9LKpdPjVgzMNC4hrwfcjNVcek"
    "wgEk982PqGr9a/INzgVXO/avwE/OGKR3nIcSWs7JNbfFt3qnz5NWqSqaA53QL7vrduId+dC4naf1zHrb0qKOyFgYJvvS84HXsLXx09M5lsWw"
    "ZG110/M2MToCMSLUB2MhHnvFX9SDJ6qsrKf31Lf+KH2t1XfU7fa0LLYC79T/a9nESp171QS7f3IU25PVV4FLOB75ENWhNpmYmaZ11dphHvHY"
    "6RfWA6MX9sRFvdY4XXvLZJtU1rdxI6LQcWDXG1H3mYZG89dx3ZQfaDfH19JsOnWUQGbX1s5RtS+13tfh4IS+ITsB2ELiQybWC/nYZJ0gjtk6"
    "VdiXD0fTpGBd2P0wmvHtvTjZA1fevmI1xNkVYkMuQL1J2Rl25N3t4NbZLVQqWJhE3dmeRJavdJtU2hyPfJFWbkzadMJ2IkCCmdp776PsHmjB"
    "2sBz4BI73qXbB0Pi3Lqev9sqYTa0huPi28KYJRxRMhvb3Rht0upNE9vh4ZAHfpS43Q/AYL8+TmPdrhNk7ahaXN20lK2BzWuo3lLFt9OWQFne"
    "36c+zbTY597+YzD3j8wR33UAsWEDspzfmkBgSMDID9+k2NtZpNYx37ckXH3DwDbgkAo99FQuyOHGyPK0ISUN4nnDyBr+cHfivWPGMEcVp+N6"
    "vNee/Qjb46MpRjS+PHjjtREY4+V6EOPBs2LA3zb25FzgnwqvQI7kgMNkmZUAt+SOYlnVriOz5UiT8cn/Va3lZS+ptS9j/eV3J18ZGJLt5ay/"
    "zDeDdubmlHTniEcT7ueWFyuSvv1i6B94Q+238vHoUSpMJg7Wcuh9Gz80nyez6MPj1Bo5X8npOdgf70+yQul9r6ewGYrC6c7FfojacVjqTZfA"
    "K0Ede+pa7Z/aktmw6m3s3dNcEubrAVFWSN/JCes8PGnERlAr68qr1ksJR7bsX0D1bJG0Weza5FBT6Un+7SPYUxJaOs/tY9MmshrDBu2gNSKL"
    "AT9n7jIMhKgBTwru7IYgf4df9u8b2ceSzMdo72Alexz06GjvhMiLx/1HCu/Yz/cVJQNK8Joz/rs4zqzwt0pFNPOJAfFAsiJUD6s58x9dlnGX"
    "+IXzIC/J2l15EvNp8e4gHW8V824C0OdKmlTzln1M/9A67fPLm2dQc3729CfDHEmsrQT0OmyYeWlKDfRczeCoLfDn9NJwt3HkWJ/09Z9WTMt5"
    "1vUKC51enylT9V5Pv3Vad9L1XxtaxztAYfVo7rrUM63o9XTQGIi38Mr2T9rsMa/as/cMnwhaiO+N97dnbJTffo/4HGMNOmPZ2fhcMa0hjRfr"
    "+IGdALj1//v43ahEkCkkBfj5ppgSgiI3+ZO/JmHIqA35x3ZGvubqZ/pNhsO1Uaps+lbvMwi1v+b7GZ75JHBTk/u+/5/kFR+a++TdTKbsbCX9"
    "Ys7OqY9HpP1zBuh6AnMt/fcqCI8Y9zn+Vp8tTeP16/5eJ4tUvJo7/oEsEvOrTOb+yOtSoYlTnP/B6NqF6w04/+HqCPOvRDs="
)
