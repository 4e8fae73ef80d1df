"""Bodies that a careless hand would change on their way to the provider."""

LONG = "an integer of 5,000 digits"

BODIES = {
    "escaped line feeds": b'{"model":"m","input":"a\\nb\\r\\n"}',
    "U+2028 and U+0085": '{"model":"m","input":"a\u2028b\u0085c\u2029"}'.encode(),
    "escaped NUL": b'{"model":"m","input":"a\\u0000b"}',
    "half a surrogate pair": b'{"model":"m","input":"\\ud83d"}',
    "a swapped surrogate pair": b'{"model":"m","input":"\\ude00\\ud83d"}',
    "an integer of 30 digits": b'{"model":"m","seed":123456789012345678901234567890}',
    "a number beyond any float": b'{"model":"m","x":1e400,"y":-1E+400}',
    "a number with every digit": b'{"model":"m","x":0.10000000000000000555,"y":-0.0,"z":1.0}',
    "the order of keys": b'{"z":1,"model":"m","a":2}',
    LONG: b'{"model":"m","seed":-%b}' % (b"9" * 5000),
    "as deep as may be": b'{"model":"m","x":%b1%b}' % (b"[" * 198, b"]" * 198),
    "as deep as may be, around nothing": b'{"model":"m","x":%b[ ]%b}' % (b"[" * 198, b"]" * 198),
    "many brackets": b'{"model":"m","x":[%b[]],"y":"%b"}' % (b"[]," * 300, b"[" * 300),
    "the same key in other objects": b'{"model":"m","x":{"model":1,"x":[{"y":1},{"y":1}]}}',
    "blanks": b'{ "model" :\t"m" , "input" : [ ] }',
    "escaped slashes": b'{"model":"m","input":"<\\/a>\\u003c"}',
}
