"""Compares the template engine with the reference (transformers' Jinja environment) on random templates.

    python jinja.py --main BUILD/tests/template_main [--seed 1] [--count 2000] [--record FILE.json]

Needs Python with transformers and jinja2. A difference is printed with its template; exit status 1. With
--record, the fixed cases below and some random ones are written with the reference's answers, for
tests/unit/template/check_golden.c.
"""
import argparse
import copy
import glob
import json
import os
import random
import re
import subprocess
import sys
import warnings

from transformers.utils.chat_template_utils import _compile_jinja_template

CONTEXT = {
    "messages": [
        {"role": "system", "content": "  Be brief. \n"},
        {"role": "user", "content": "Grüße <b> & \"q\" 你好 ß"},
        {"role": "assistant", "content": "", "reasoning_content": "hm\n", "tool_calls": [
            {"type": "function", "id": "c1", "function": {"name": "f", "arguments": {"a": 1, "b": [1.5, None, True], "c": {"é": "x"}}}}]},
        {"role": "tool", "content": "42", "tool_call_id": "c1", "name": "f"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}, {"audio": "u"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d'\"", "parameters": {
        "type": "object", "properties": {"x": {"type": "string", "enum": ["a", "b"]}, "n": {"type": "integer", "default": 5}}, "required": ["x"]}}}],
    "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>",
    "n": 7, "m": -3, "z": 0, "big": 12345678901234567890123, "f": 2.5, "one": 1.0, "g": -0.1, "h": 1e22, "tiny": 1e-7,
    "s": "a,b,,c", "w": " Hello  big\tWorld\n", "u": "ÄöÜ ǆ ŉ ΑΣ Σ ß ﬁ İ", "q": "it's \"x\"\\\n", "t": True, "no": False, "nul": None, "empty": "",
    "l": [3, 1, 2], "e": [], "mixed": [1, "a", None, 2.5, True, [1], {"k": 1}], "strs": ["b", "A", "c", "a", "B"],
    "d": {"k": 1, "z": "y", "a": [3, 1, 2], "items": 5}, "ed": {}, "rows": [{"n": "x", "v": 2}, {"n": "Y", "v": 1}, {"n": "x", "v": 3}, {"v": 9}],
    "tree": [{"v": 1, "c": [{"v": 2, "c": []}, {"v": 3, "c": [{"v": 4, "c": []}]}]}],
}

FIXED = [
    # numbers and texts
    "{{ [1e16, 1e15, 123456789.123, 0.1+0.2, 1/3, 5e-324, 1.7976931348623157e308, -0.0, 100.0, 1e-5, 0.0001, 12345678.9] }}",
    "{{ big }} {{ big|string|length }} {{ [big] }} {{ big == big }} {{ big|tojson }} {{ big is integer }}",
    "{{ 7 % -3 }} {{ -7 % 3 }} {{ 7.5 // 2 }} {{ -7.5 // 2 }} {{ -7.5 % 2 }} {{ 2 ** -1 }} {{ 2 ** 0.5 }} {{ -2 ** 2 }} {{ 2 ** 3 ** 2 }}",
    "{{ 1_000 }} {{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1e3 }} {{ 1.5e-3 }} {{ 00 }}",
    "{{ true + 1 }} {{ true == 1 }} {{ 1 == 1.0 }} {{ '1' == 1 }} {{ none == false }} {{ [1] == (1,) }} {{ {'a': 1} == {'a': 1.0} }}",
    "{{ 'a' * 3 }} {{ 3 * 'ab' }} {{ [1] * 2 }} {{ 'a' * -1 }}|{{ (1, 2) + (3,) }}",
    "{{ 'abc'[1] }} {{ 'abc'[-1] }} {{ 'abc'[5] }}|{{ u[0] }}{{ u[::-1] }}{{ u[2:9:3] }} {{ l[5:1:-1] }} {{ l[::-2] }} {{ l[-100:100] }} {{ (1,2,3)[1:] }}",
    "{{ '%s %d %5.2f %r %x %-5s| %05d %+d %%' % ('a', 5, 3.14159, 'q', 255, 'b', 42, 3) }} {{ '%s' % n }} {{ '%(a)s' % {'a': 1} }} {{ 'a %s' | format('b') }}",
    "{{ '{} {1}'.format(1) if false else '{} {}'.format('a', 1.0) }} {{ '{0:>5}|{1:<5}|{2:^5}|{x!r}'.format(1, 'b', 'c', x='q') }} {{ '{:,} {:.2f} {:05d} {:x} {:+}'.format(1234567, 3.14159, 42, 255, 3) }}",
    "{{ '{a.b} {l[0]} {d[k]}'.format(a={'b': 1}, l=[9], d={'k': 2}) }}", "{{ '{{}}'.format() }}",
    "{{ u|upper }}|{{ u|lower }}|{{ u|title }}|{{ u.title() }}|{{ u|capitalize }}|{{ u.swapcase() }}|{{ u.casefold() }}|{{ w|title }}|{{ 'a-b (c) [d] e\\'f'|title }}",
    "{{ w.split() }}{{ w.split(' ') }}{{ s.split(',', 1) }}{{ s.rsplit(',', 1) }}{{ w.rsplit(none, 1) }}{{ w.split(none, 1) }}{{ s.partition(',') }}{{ s.rpartition(',') }}{{ s.partition('x') }}",
    "{{ w.strip() }}|{{ w.lstrip() }}|{{ w.rstrip() }}|{{ 'xyx'.strip('x') }}|{{ '\u00a0\u3000a\u2003'.strip() }}|{{ 'a\u200b'.strip()|length }}",
    "{{ 'abcabc'.find('c', 3) }} {{ u.find('ß') }} {{ 'abc'.rfind('z') }} {{ 'aXbX'.count('X') }} {{ 'aaa'.count('') }} {{ 'abc'.index('b') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'ab'.replace('', '-') }}",
    "{{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.startswith('b', 1) }} {{ 'abc'.endswith('c', 0, 2) }} {{ 'abc'.endswith('') }}",
    "{{ 'a\\nb\\r\\nc\\rd\\x0be\\n'.splitlines() }} {{ 'a\\nb'.splitlines(true) }} {{ ''.splitlines() }}",
    "{{ 'ab'.center(7, '*') }} {{ 'ab'.center(6)|length }} {{ 'abc'.center(6,'.') }} {{ 'ab'.ljust(5, '.') }} {{ 'ab'.rjust(5) }} {{ '-5'.zfill(4) }} {{ 'a\\tb'.expandtabs(4) }} {{ 'abc'|center(10) }}|",
    "{{ '12'.isdigit() }}{{ '²'.isdigit() }}{{ 'a1'.isalnum() }}{{ 'ab'.isalpha() }}{{ ' '.isspace() }}{{ 'Ab'.istitle() }}{{ 'ab'.islower() }}{{ 'AB'.isupper() }}{{ ''.isdigit() }}{{ 'é'.isascii() }}{{ '½'.isnumeric() }}{{ 'a_1'.isidentifier() }}{{ '\\n'.isprintable() }}",
    "{{ 'abc'.removeprefix('a').removesuffix('c') }} {{ '-'.join('abc') }} {{ ','.join(strs) }}",
    "{{ q }}{{ [q] }}{{ ['\\u200b\\x7f\\x00é\\U0001f600\\t', \"'\", '\"', '\\'\"'] }}",
    "{{ [none, true, 1, 1.0, 'a', (), (1,), [], {}, {'a': (1, 2)}] }} {{ d.keys() }} {{ d.values() }} {{ ed.items() }} {{ range(3) }} {{ range(1, 9, 2) }}",
    "{{ d.items }} {{ d['items'] }} {{ d.get('items') }}" if False else "{{ d['items'] }} {{ d.get('items') }} {{ d.items()|list|length }}",
    # json
    "{{ mixed|tojson }}{{ mixed|tojson(indent=1) }}{{ d|tojson(separators=(',', ':')) }}{{ d|tojson(sort_keys=true) }}{{ u|tojson }}{{ u|tojson(ensure_ascii=true) }}{{ '\\u007f\\u0001\\t/'|tojson }}{{ ed|tojson(indent=2) }}{{ e|tojson(indent=2) }}",
    "{{ {1: 2, none: 3, true: 4, 2.5: 5}|tojson }} {{ (1, 2)|tojson }} {{ h|tojson }} {{ [1e16, 1.0, 5]|tojson }} {{ tools|tojson(indent='\\t') }} {{ {'a': {'b': []}}|tojson(indent=4) }}",
    "{{ missing|tojson }}", "{{ namespace(a=1)|tojson }}", "{{ {'b':1,'a':[{'d':1,'c':2}]}|tojson(sort_keys=true, indent=2) }}",
    # filters
    "{{ l|sort }}{{ l|sort(reverse=true) }}{{ strs|sort }}{{ strs|sort(case_sensitive=true) }}{{ rows[:3]|sort(attribute='n,v') }}{{ rows[:3]|sort(attribute='v', reverse=true)|map(attribute='n')|join(',') }}",
    "{{ d|dictsort }}" if False else "{{ {'b':1,'A':2,'c':0}|dictsort }}{{ {'b':1,'A':2,'c':0}|dictsort(true) }}{{ {'b':1,'A':2,'c':0}|dictsort(by='value') }}{{ {'b':1,'A':2}|dictsort(false, 'key', true) }}",
    "{{ strs|unique|list }}{{ strs|unique(true)|list }}{{ rows|unique(attribute='n')|list }}{{ [1, 1.0, true, '1']|unique|list }}",
    "{{ range(7)|batch(3)|list }}{{ range(7)|batch(3, 'x')|list }}{{ range(7)|slice(3)|list }}{{ range(7)|slice(3, 'x')|list }}",
    "{{ rows[:3]|groupby('n') }}{% for g in rows|groupby('n', default='?') %}{{ g.grouper }}:{{ g.list|length }} {% endfor %}{% for k, v in rows[:3]|groupby('v') %}{{ k }}{{ v }}{% endfor %}",
    "{{ rows|map(attribute='n', default='-')|list }}{{ rows|map(attribute='n')|list }}{{ strs|map('upper')|map('lower')|join }}{{ [[1,2],[3]]|map('first')|list }}{{ l|map('string')|list }}",
    "{{ l|select('gt', 1)|list }}{{ l|reject('odd')|list }}{{ mixed|select|list }}{{ rows|selectattr('n')|list }}{{ rows|selectattr('v', 'ge', 2)|map(attribute='v')|list }}{{ rows|rejectattr('n', 'defined')|list }}{{ messages|selectattr('role', 'in', ['user', 'tool'])|map(attribute='role')|join('|') }}",
    "{{ l|sum }}{{ rows|sum(attribute='v') }}{{ [[1],[2]]|sum(start=[]) }}{{ l|max }}{{ strs|min }}{{ rows[:3]|max(attribute='v') }}{{ e|max }}|{{ strs|max(case_sensitive=true) }}",
    "{{ 2.5|round }}{{ 3.5|round }}{{ 2.675|round(2) }}{{ 1234.5|round(-2) }}{{ 7|round }}{{ 2.1|round(method='ceil') }}{{ 2.19|round(1, 'floor') }}{{ -2.5|round }}{{ 15|round(-1) }}{{ 25|round(-1) }}",
    "{{ '3.9'|int }}{{ 'x'|int(7) }}{{ 'ff'|int(0, 16) }}{{ '0x1f'|int(0, 16) }}{{ '12 '|int }}{{ none|int }}{{ 3.99|int }}{{ '1e3'|int }}{{ '-5'|int }}{{ '1.5'|float }}{{ 'x'|float(2.0) }}{{ '  7 '|float }}{{ 'inf'|float }}{{ '1_0'|int }}",
    "{{ w|wordcount }}{{ 'a b-c'|wordcount }}{{ 'a\\nb\\n\\nc'|indent }}{{ 'a\\nb'|indent(2, true) }}{{ 'a\\n\\nb'|indent(2, blank=true) }}{{ 'a\\nb'|indent('> ') }}{{ 'hello wonderful world'|truncate(12) }}{{ 'hello world'|truncate(8, true, '…', 0) }}{{ 'abc'|truncate(2, false, '', 5) }}",
    "{{ '<a href=\"x\">&\\''|e }}{{ '<'|e ~ '<' }}{{ ('<'|e) + '<' }}{{ '<b>'|safe }}{{ ['<'|e] }}{{ '<p>a &amp;  <b>c</b></p><!-- x -->'|striptags }}{{ 'a b/é?&'|urlencode }}{{ {'a b': 'c&', 'd': 1}|urlencode }}",
    "{{ 'abc'|reverse }}{{ l|reverse|list }}{{ (1,2)|reverse|list }}{{ l|first }}{{ 'abc'|first }}{{ l|last }}{{ e|first }}{{ d|first }}{{ range(3)|last }}{{ e|last is undefined }}",
    "{{ l|join }}{{ l|join(', ') }}{{ rows|join('-', attribute='v') }}{{ 'abc'|join('.') }}{{ d|join(',') }}{{ missing|join }}{{ [none, 1.0, 'x']|join(' ') }}",
    "{{ missing|default('d') }}{{ nul|default('d') }}{{ nul|d('d', true) }}{{ ''|default('x', boolean=true) }}{{ d.nope|default(1) }}{{ missing|default }}|",
    "{{ d|items|list }}{{ missing|items|list }}{{ d|length }}{{ u|length }}{{ missing|length }}{{ 'abc'|list }}{{ d|list }}{{ range(4)|length }}{{ d.keys()|length }}{{ 5|string + 'x' }}{{ d|count }}",
    "{{ 1024|filesizeformat }} {{ 1|filesizeformat }} {{ 123456789|filesizeformat }} {{ 123456|filesizeformat(true) }} {{ {'a': 1, 'b': none, 'c<': '<'}|xmlattr }}",
    "{{ 'a'|trim('x') }}{{ 'xax'|trim('x') }}{{ 5|trim }}{{ 'aXa'|replace('a', 'b') }}{{ 'aaa'|replace('a', 'b', 2) }}{{ 121|replace(1, 3) }}{{ -5|abs }}{{ 5.5|abs }}{{ -3.0|abs }}",
    "{{ d|attr('get') is callable }}{{ d|attr('k') is undefined }}{{ 'x'|attr('upper')() }}",
    # tests
    "{{ [n is odd, m is even, n is divisibleby 7, n is divisibleby(2), s is string, d is mapping, l is sequence, d is sequence, l is iterable, n is iterable, f is float, t is boolean, t is number, t is integer, nul is none, 'a' is lower, 'A' is upper, 'a' in 'abc', 3 is in [3], range is callable, s is sameas s, missing is defined, l is sequence, range(3) is sequence, d.items() is sequence, d.items() is iterable] }}",
    "{{ 1 is eq 1 }}{{ 1 is ne 2 }}{{ 2 is gt 1 }}{{ 2 is lessthan 1 }}{{ 'x' is not string }}{{ 'upper' is filter }}{{ 'odd' is test }}{{ 'x' is filter }}{{ none is not none }}{{ not missing is defined }}{{ true is true }}{{ 1 is true }}{{ false is false }}{{ missing is true }}",
    # statements and scopes
    "{% for m in messages %}{{ loop.index }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.cycle('a', 'b') }}{{ loop.changed(m.role) }}{{ loop.depth }}{{ loop.previtem.role if loop.previtem }}{{ loop.nextitem.role if not loop.last }};{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}{{ x }}{% else %}none{% endfor %}{% for x in l if x > 9 %}a{% else %}none{% endfor %}",
    "{% set ns = namespace(c=0) %}{% for x in range(6) if ns.c < 2 %}{% set ns.c = ns.c + 1 %}{{ x }}{% endfor %}",
    "{% for x in tree recursive %}[{{ x.v }}{{ loop.depth }}{{ loop.depth0 }}{% if x.c %}{{ loop(x.c) }}{% endif %}]{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3)), (4, (5, 6))] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% for a, b in d.items() %}{{ a }}{% endfor %}",
    "{% for x in l %}{% continue %}{% else %}E{% endfor %}{% for x in l %}{% break %}{% else %}E{% endfor %}{% for x in l %}{{ x }}{% if x == 1 %}{% break %}{% endif %}{% else %}E{% endfor %}",
    "{% set x = 1 %}{% for i in l %}{{ x }}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "{% for i in l %}{% set y = i %}{% endfor %}{{ y }}|",
    "{% if t %}{% set x = 5 %}{% endif %}{{ x }}{% if no %}{% set s = 'q' %}{% endif %}{{ s }}", "{% for i in l %}{{ n }}{% endfor %}{% set n = 2 %}{{ n }}",
    "{{ n }}{% for i in l %}{{ n }}{% endfor %}{% set n = 2 %}{{ n }}", "{% macro a() %}{{ n }}{% endmacro %}{{ a() }}{% set n = 2 %}{{ a() }}",
    "{% macro a() %}{{ zz }}{% endmacro %}{{ a() }}{% set zz = 2 %}{{ a() }}", "{% macro a(x) %}{% set n = x %}{{ n }}{% endmacro %}{{ a(3) }}{{ n }}",
    "{% macro f(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1) }}{{ f(1, 3, 4, 5, 6, x=7) }}{{ f(b=1, a=0) }}{{ f() }}{{ f.name }}{{ f.arguments }}{{ f.catch_kwargs }}{{ f.catch_varargs }}{{ f.caller }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}", "{% macro f(a) %}{{ a + 1 }}{% endmacro %}{{ f() }}",
    "{% macro l(items) %}<{% for i in items %}{{ caller(i, loop.index) }}{% endfor %}>{% endmacro %}{% call(x, y) l([1, 2]) %}{{ x }}-{{ y }};{% endcall %}",
    "{% macro f() %}{{ caller is defined }}{% if caller %}{{ caller() }}{% endif %}{% endmacro %}{{ f() }}{% call f() %}z{% endcall %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% set n = 9 %}{{ n }}{% endwith %}{{ n }}{{ a }}", "{% with %}{% set q = 1 %}{% endwith %}{{ q|length }}",
    "{% set a, b = l[:2] %}{{ a }}{{ b }}{% set (c, d2) = 'xy' %}{{ c }}{{ d2 }}", "{% set ns = namespace(a=1, **{'b': 2}) %}{% set ns.c = ns.a + ns.b %}{{ ns.c }}{{ ns.nope is defined }}{{ ns }}",
    "{% set x | upper | trim %} a{{ n }} {% endset %}[{{ x }}]{% filter upper | replace('A', 'b') %}a{{ s }}{% endfilter %}",
    "{% set x %}{% for i in l %}{{ i }}{% endfor %}{% endset %}{{ x }}{{ x is string }}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ j() }}",
    "{{ dict(a=1, b=2) }}{{ dict({'x': 1}, y=2) }}{{ dict([('a', 1)]) }}", "{% set f = range %}{{ f(2)|list }}", "{{ (lambda) }}", "{% print 'a', 1 %}",
    "{% generation %}{% set x = 5 %}{{ x }}{% endgeneration %}{{ x is defined }}", "{{ 1 if no }}{{ (1 if no) is undefined }}{{ 'a' if no else 'b' if no else 'c' }}",
    "{{ n and s }}{{ no or nul }}{{ not (n and no) }}{{ 1 < 2 < 3 }}{{ 1 < 3 < 2 }}{{ 2 in l and 5 not in l }}{{ 'k' in d }}{{ 1 in d.values() }}{{ 'x' not in s }}",
    "{{ l.append(1) }}", "{{ d.update({}) }}", "{{ d.pop('k') }}", "{{ ''.__class__ }}|", "{{ ''.__class__.x }}", "{{ l.append is defined }}{{ d.__class__ is defined }}", "{{ d._x }}|{{ l.sort }}|",
    "{{ missing.a }}", "{{ missing['a'] }}", "{{ missing() }}", "{{ missing + 1 }}", "{{ d.nope.x }}", "{{ nul.x }}|", "{{ nul.x.y }}", "{{ nul[0] }}|", "{{ n[0] }}|", "{{ l['x'] }}|", "{{ l[9] }}|", "{{ l.x }}|{{ l.0 }}{{ l.9 }}|",
    "{{ missing == missing2 }}{{ missing == none }}{{ missing == '' }}{{ missing ~ 'a' }}{{ missing in l }}{{ not missing }}{{ [missing] }}{{ 'a' in missing }}", "{{ missing < 1 }}", "{{ -missing }}", "{{ missing in s }}",
    "{{ 1 + 'a' }}", "{{ 'a' + 1 }}", "{{ [] + () }}", "{{ none + 1 }}", "{{ 'a' < 1 }}", "{{ {} < {} }}", "{{ none < 1 }}", "{{ 1 / 0 }}", "{{ 1 // 0 }}", "{{ 1 % 0 }}", "{{ 1.0 / 0 }}", "{{ -'a' }}", "{{ 'a' - 'b' }}", "{{ {}[[]] }}|", "{{ {[]: 1} }}", "{{ [1, 'a']|sort }}", "{{ n() }}", "{{ 5|length }}", "{{ 5|list }}", "{{ for }}", "{{ 'a' 'b' }}", "{{ 'abc' | nofilter }}", "{{ 'abc' is notest }}", "{% if no %}{{ 'abc' | nofilter }}{% endif %}ok", "{{ ('abc' | nofilter) if no else 1 }}", "{{ range(100001) }}", "{{ range(100000)|length }}", "{{ range(3, 0) |list }}{{ range(3, 0, -1)|list }}",
    "{% for x in n %}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% for a, b in ['xy'] %}{{ a }}{{ b }}{% endfor %}", "{% set a, b = 1 %}", "{% set n.x = 1 %}", "{% set d.x = 1 %}", "{% set 1 = 2 %}", "{% set a.b.c = 2 %}",
    "{{ raise_exception('no: ' ~ n) }}", "{{ raise_exception() }}", "{% raw %}{{ x }}{% if %}{%- endraw %} a", "{%- raw -%}  {{ }}  {%- endraw -%}  b", "a {# c #} b", "a\n{# c #}\nb", "a\n  {# c #}\nb", "a {#- c -#} b", "{{ '}}' }}{{ \"%}\" }}{{ {'a': {'b': 1}}['a']['b'] }}{{ {'a': {}} }}",
    "a\n  {%+ if t %}x{% endif %}\n  {%- if t +%}\ny{% endif %}\n", "  {% if t -%}\n  x\n  {%- endif %}  \n z", "a\r\nb{% if t %}\r\nc{% endif %}\rd\n\n", "{% if t %}\n\n{% endif %}\n\n", "   {{ n }}\n   {% set x = 1 %}   \n{{ x }}", "{%if t%}{{n}}{%endif%}", "\n{% if t %}\n  {% for i in l %}\n    {{ i }}\n  {% endfor %}\n{% endif %}\nend\n",
    "{{ '\\x41\\u00e9\\101\\n\\q' }}{{ 'a' 'b' \"c\" }}{{ 'a\nb' }}", "{{ 1.foo }}", "{{ l|map('nofilter')|list }}", "{{ l|select('notest')|list }}", "{{ [1,2,3,][0] }}{{ (1,)[0] }}{{ {'a':1,}['a'] }}{{ () }}{{ (1) }}{{ 1, 2 }}{{ f.is_integer() }}{{ one.is_integer() }}",
    "{{ strftime_now('%Y')|length }}", "{{ l|tojson|length }}{{ d.a[0] }}{{ d['a'][-1] }}{{ messages[-1].content[1]['text'] }}{{ messages[-1]['content'][0].type }}", "{{ mixed|string }}{{ mixed|map('string')|list }}", "{% if %}{% endif %}", "{% endif %}", "{% for x in l %}", "{{ 1 +}}", "{{ (1 }}", "{{ 1) }}", "{{", "{% if t %}{% endfor %}", "{% unknown %}", "{% include 'x' %}", "{# open", "{{ 'open }}", "{% break %}", "{% raw %}x",
    "{{ x is defined and x is not none }}{{ tools is defined and tools }}"[:40], "{% set x = namespace() %}{% set x.a = [] %}{% set x.a = x.a + [1] %}{{ x.a }}", "{{ messages|map(attribute='content')|select('string')|map('trim')|list }}", "{{ 'a,b'.split(',')|map('upper')|join('+') }}{{ (messages|last).role }}{{ messages|selectattr('role', 'equalto', 'tool')|first }}",
    "{{ {'a': 1}.items()|list }}{{ dict(d, x=1)|length }}{{ d|dictsort|length if no else 0 }}", "{{ l|first|string|int + 1 }}{{ -l[0] }}{{ +l[0] }}{{ not l }}{{ l is iterable and l is not string and l is not mapping }}",
    "{% set it = l|map('string') %}{{ it|first }}{{ it|list }}{{ it|list }}", "{{ l|map('string')|length }}", "{% for x in l|map('string') %}{{ loop.length }}{{ x }}{{ loop.last }}{% endfor %}", "{{ (l|map('string')) is iterable }}{{ (l|map('string')) is sequence }}{{ l|map('string') and 'true' }}",
]

# ---- random templates ----

NAMES = ["messages", "tools", "n", "m", "z", "f", "one", "g", "h", "tiny", "s", "w", "u", "q", "t", "no", "nul", "empty", "l", "e", "mixed", "strs", "d", "ed", "rows", "missing", "add_generation_prompt"]
LITERALS = ["1", "0", "-2", "3.5", "'a'", "'A b'", "''", "'é你'", "true", "false", "none", "[]", "[1, 2]", "('a', 1)", "{'a': 1}", "10", "0.1", "'role'", "'x,y'", "2"]
FILTERS = ["upper", "lower", "trim", "length", "string", "list", "first", "last", "join(',')", "sort", "unique|list", "reverse|list", "tojson", "int", "float", "default('D')", "default('D', true)", "abs", "round", "round(1)", "title", "capitalize", "replace('a', 'bb')", "sum", "max", "min",
           "map('string')|list", "select|list", "reject('none')|list", "items|list", "dictsort", "wordcount", "indent(2)", "batch(2)|list", "slice(2)|list", "e", "urlencode", "center(9)", "truncate(5)", "map(attribute='role')|list", "selectattr('role')|list", "tojson(indent=2)", "count", "map('length')|list", "striptags", "format(1)", "groupby('role')", "sum(start=1)", "string|length", "map('upper')|join('-')", "select('string')|list", "sort(reverse=true)", "max(attribute='v')", "trim('a')", "d"]
TESTS = ["defined", "undefined", "none", "string", "number", "mapping", "sequence", "iterable", "boolean", "true", "false", "odd", "even", "integer", "float", "lower", "upper", "divisibleby 2", "eq 1", "in [1, 'a']", "callable", "sameas none", "gt 1", "escaped"]
METHODS = [".upper()", ".lower()", ".strip()", ".split(',')", ".split()", ".get('a')", ".get('k', 0)", ".items()|list", ".keys()|list", ".values()|list", ".role", ".content", "['role']", "[0]", "[-1]", "[1:]", "[::-1]", "[:2]", ".startswith('a')", ".endswith('c')", ".replace('a', 'b')", ".title()", ".find('a')", ".count('a')", ".index(1)", ".join(['x', 'y'])",
           ".capitalize()", ".lstrip('a')", ".rstrip()", ".splitlines()", ".isdigit()", ".zfill(5)", ".partition(',')", ".nope", ".items", ".rsplit(',', 1)", ".swapcase()", ".copy()", ".format(1, a=2)", "[1:-1]", "[-2:]", "[::2]", ".casefold()", ".rfind('b')"]
BINARY = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "and", "or", "in", "not in"]


class Maker:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.vars = []

    def atom(self):
        r = self.r
        pool = NAMES + self.vars * 3
        return r.choice(pool) if r.random() < 0.6 else r.choice(LITERALS)

    def typed(self, kind, depth):
        """An expression that has the kind, so that it mostly renders: s(tring), i(nteger), l(ist), b(ool), d(ict)."""
        r, t = self.r, lambda k: self.typed(k, depth - 1)
        leaf = {"s": ["s", "w", "u", "q", "empty", "bos_token", "'A b'", "'é你'", "messages[1].content", "messages[0]['role']"], "i": ["n", "m", "z", "1", "3", "l[0]", "messages | length", "u | length"],
                "l": ["l", "strs", "e", "messages", "rows", "tools", "mixed", "range(4)", "[1, 2, 'a']", "messages[4].content", "'a,b'.split(',')", "d.items()", "(d | items | list)"], "b": ["t", "no", "true", "add_generation_prompt", "missing", "nul"],
                "d": ["d", "ed", "rows[0]", "messages[2]", "tools[0]", "{'a': 1}", "messages[2].tool_calls[0].function.arguments"]}
        if depth <= 0:
            return r.choice(leaf[kind])
        more = {
            "s": lambda: r.choice([f"{t('s')}{r.choice(['.upper()', '.lower()', '.strip()', '.title()', '.lstrip()', '.capitalize()', '.swapcase()', '[1:]', '[:3]', '[::-1]', '[-4:-1]', '.replace(' + repr(r.choice(['a', ' ', ',', 'ß'])) + ', ' + repr(r.choice(['', 'xy', 'é'])) + ')', '.rstrip()', '.zfill(6)', '.center(9)', '.removeprefix(' + repr('a') + ')'])}",
                                   f"({t('s')} ~ {t(r.choice('silbd'))})", f"({t('s')} + {t('s')})", f"({t('s')} * 2)", f"({t('l')} | join({t('s')}))", f"({t(r.choice('silbd'))} | tojson)", f"({t(r.choice('silbd'))} | string)", f"({t('s')} | {r.choice(['trim', 'upper', 'title', 'indent', 'e', 'truncate(6)', 'urlencode', 'striptags', 'replace(1, 2)', 'center(11)', 'reverse', 'capitalize'])})",
                                   f"('%s|%5d|%r' % ({t('s')}, {t('i')}, {t('s')}))", f"'{{}} {{:>7}} {{x}}'.format({t('s')}, {t('i')}, x={t('b')})", f"({t('s')} if {t('b')} else {t('s')})", f"({t('d')} | tojson(indent={r.randint(0, 3)}))", f"({t('l')} | tojson(separators=(',', ':')))"]),
            "i": lambda: r.choice([f"({t('i')} {r.choice(['+', '-', '*'])} {t('i')})", f"({t(r.choice('sld'))} | list | length)", f"{t('s')}.find({t('s')})", f"{t('s')}.count('a')", f"({t('s')} | wordcount)", f"({t('i')} // 3)", f"({t('i')} % 4)", f"(-{t('i')})", f"({t('i')} | abs)", f"({t('i')} / 4)", f"({t('i')} | string | int)", f"(({t('i')} * 1.5) | round(1))", f"(f ** 2)"]),
            "l": lambda: r.choice([f"({t('l')} | list)[{r.choice(['1:', ':2', '::-1', '-2:', '::2'])}]", f"({t('l')} | map('string') | list)", f"({t('l')} | reverse | list)", f"({t('l')} | select | list)", f"({t('l')} | map('string') | sort)", f"{t('s')}.split({r.choice(['', repr(','), repr(' '), 'none, 1'])})", f"({t('s')} | list)", f"({t('l')} | batch(2) | list)", f"({t('l')} | slice(2, 'z') | list)", f"({t('d')} | items | list)", f"({t('l')} | map('string') | unique | list)", f"({t('l')} | reject('mapping') | list)", f"[{t('s')}, {t('i')}, {t('b')}]", f"({t('d')} | dictsort)", f"{t('s')}.splitlines()", f"(messages | selectattr('role', 'eq', {t('s')}) | list)", f"(rows | map(attribute='n', default={t('s')}) | list)", f"(messages | groupby('role'))"]),
            "b": lambda: r.choice([f"({t('i')} {r.choice(['<', '>=', '==', '!='])} {t('i')})", f"({t('s')} in {t('s')})", f"({t('s')} in {t('l')})", f"({t(r.choice('sildb'))} is {r.choice(TESTS[:18])})", f"(not {t('b')})", f"({t('b')} and {t(r.choice('sild'))})", f"({t('b')} or {t(r.choice('sild'))})", f"{t('s')}.startswith({t('s')})", f"({t('s')} < {t('s')})", f"({t('d')} == {t('d')})", f"{t('s')}.isalpha()", f"({t('d')}.nope is defined)", f"({t('l')} | list == {t('l')})"]),
            "d": lambda: r.choice([f"{{{t('s')}: {t('i')}, 'z': {t('l')} | list}}", f"dict({t('d')}, x={t('i')})", f"({t('d')} if {t('b')} else {t('d')})", f"({{'k': {t('d')}}}).k"]),
        }
        return more[kind]() if r.random() < 0.8 else r.choice(leaf[kind])

    def expr(self, depth):
        r = self.r
        if r.random() < 0.75:
            return self.typed(r.choice("ssilbd"), depth)
        if depth <= 0:
            return self.atom()
        k = r.random()
        if k < 0.2:
            return self.atom()
        if k < 0.4:
            return f"{self.expr(depth - 1)} | {r.choice(FILTERS)}" if r.random() < 0.5 else f"({self.expr(depth - 1)}) | {r.choice(FILTERS)}"
        if k < 0.6:
            method = r.choice(METHODS)
            # The reference folds slices of constants that cannot be sliced to undefined values: kept out.
            base = self.typed(r.choice("sl"), depth - 1) if ":" in method else self.expr(depth - 1)
            return f"({base}){method}"
        if k < 0.75:
            return f"{self.expr(depth - 1)} {r.choice(BINARY)} {self.expr(depth - 1)}"
        if k < 0.82:
            return f"({self.expr(depth - 1)} if {self.expr(depth - 1)} else {self.expr(depth - 1)})"
        if k < 0.9:
            return f"{self.expr(depth - 1)} is {r.choice(['', 'not '])}{r.choice(TESTS)}"
        if k < 0.94:
            return f"not {self.expr(depth - 1)}"
        if k < 0.97:
            return f"[{self.expr(depth - 1)}, {self.expr(depth - 1)}]"
        return f"{{'k': {self.expr(depth - 1)}, 'v': {self.expr(depth - 1)}}}"

    def white(self):
        return self.r.choice(["", "", "", " ", "\n", "\n  ", "  \n", "x", " y\n"])

    def tag(self, body):
        r = self.r
        return "{%" + r.choice(["", "", "-", "+"]) + " " + body + " " + r.choice(["", "", "-", "+"]) + "%}"

    def name(self):
        name = self.r.choice(["a1", "b1", "c1", "n", "s"])
        if name not in self.vars:
            self.vars.append(name)
        return name

    def stmt(self, depth, loop=False):
        r = self.r
        k = r.random()
        if depth <= 0 or k < 0.35:
            return "{{" + r.choice(["", "-"]) + " " + self.expr(2) + " " + r.choice(["", "-"]) + "}}"
        if k < 0.5:
            return self.tag("if " + self.expr(2)) + self.body(depth - 1, loop) + (self.tag("elif " + self.expr(1)) + self.body(depth - 1, loop) if r.random() < 0.3 else "") + (self.tag("else") + self.body(depth - 1, loop) if r.random() < 0.5 else "") + self.tag("endif")
        if k < 0.68:
            name = self.name()
            source = r.choice(["l", "strs", "messages", "d", "range(3)", "rows", self.expr(1)])
            inner = self.body(depth - 1, True) + (r.choice(["{{ loop.index }}", "{{ loop.last }}", "{{ loop.previtem }}", "{{ loop.length }}", "{{ loop.revindex0 }}", "{% if loop.index == 2 %}{% break %}{% endif %}", "{% if loop.first %}{% continue %}{% endif %}"]))
            return self.tag(f"for {name} in {source}" + (f" if {self.expr(1)}" if r.random() < 0.25 else "")) + inner + "{{ " + name + " }}" + (self.tag("else") + self.body(depth - 1) if r.random() < 0.3 else "") + self.tag("endfor")
        if k < 0.8:
            e = self.expr(2)
            return self.tag(f"set {self.name()} = {e}")
        if k < 0.85:
            b = self.body(depth - 1)
            return self.tag(f"set {self.name()}" + r.choice(["", " | upper", " | trim | length"])) + b + self.tag("endset")
        if k < 0.9:
            n = r.choice(["f1", "f2"])
            b = self.body(depth - 1)
            return self.tag(f"macro {n}(a1, b1={self.atom()})") + b + self.tag("endmacro") + "{{ " + n + "(" + r.choice(["1", "n, 2", "b1=s", "", "a1=l, b1='z'"]) + ") }}"
        if k < 0.94:
            return self.tag("filter " + r.choice(["upper", "trim", "replace('a', 'b')", "length"])) + self.body(depth - 1) + self.tag("endfilter")
        if k < 0.98:
            e = self.expr(1)
            return self.tag(f"with {self.name()} = {e}") + self.body(depth - 1) + self.tag("endwith")
        return "{#" + r.choice(["", "-"]) + " c " + r.choice(["", "-"]) + "#}"

    def body(self, depth, loop=False):
        return "".join(self.white() + self.stmt(depth, loop) for _ in range(self.r.randint(1, 2))) + self.white()

    def template(self):
        self.vars = []
        return "".join(self.white() + self.stmt(3) for _ in range(self.r.randint(1, 4))) + self.white()


# ---- templates in the manner of published model families ----

def conversations():
    user, answer = {"role": "user", "content": "Hi  "}, {"role": "assistant", "content": "<think>\nr\n</think>\n\n A "}
    system = {"role": "system", "content": " S "}
    call = CONTEXT["messages"][2] | {"content": ""}
    tool = CONTEXT["messages"][3]
    parts = CONTEXT["messages"][4]
    for messages in ([user], [system, user], [user, answer, user], [system, user, answer], [user, call, tool], [system, user, call, tool, answer, user],
                     [parts], [user, answer, parts], [user, user], [answer], [{"role": "other", "content": "x"}], [{"role": "user"}], [], [user, call, tool, tool, answer]):
        for prompt in (True, False):
            for tools in (None, CONTEXT["tools"], CONTEXT["tools"] * 2):
                yield dict(CONTEXT, messages=messages, add_generation_prompt=prompt, tools=tools)


def families(engine):
    here = os.path.dirname(os.path.abspath(__file__))
    paths = sorted(glob.glob(os.path.join(here, "families", "*.jinja"))) + [
        os.path.join(here, "../../coordinator/text/builtin_template.jinja"), os.path.join(here, "../golden/tokenizer-qwen3-omni/chat_template.jinja")]
    wrong, rendered, total = 0, 0, 0
    for path in paths:
        with open(path, encoding="utf-8", newline="") as f:
            template = f.read()
        for context in conversations():
            same, want = compare(engine, template, False, context)
            if not same:
                print("    in", path, json.dumps(context["messages"], ensure_ascii=False)[:300])
            wrong, rendered, total = wrong + (not same), rendered + ("output" in want), total + 1
    print(f"{len(paths)} family templates, {total} conversations ({rendered} of them render), {wrong} differ")
    return wrong


ADDRESS = re.compile(r"0x[0-9a-f]{6,}| object>|<generator|<built-in|<bound|<function|reverseiterator| at 0x", re.I)


def reference(template, context=CONTEXT):
    try:
        return {"output": _compile_jinja_template(template).render(**copy.deepcopy(context))}
    except RecursionError:
        return {"error": "RecursionError"}
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}


class Engine:
    def __init__(self, main):
        self.main = main
        self.start()

    def start(self):
        self.p = subprocess.Popen([self.main, "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, template, context=CONTEXT):
        self.p.stdin.write(json.dumps({"template": template, "context": context}, ensure_ascii=False).encode() + b"\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        if not line:
            self.start()
            return {"error": "CRASH"}
        return json.loads(line)


def compare(engine, template, verbose, context=CONTEXT):
    want, got = reference(template, context), engine.render(template, context)
    if "output" in want and ADDRESS.search(want["output"]):
        return True, want
    same = want.get("output") == got.get("output") and got.get("error") != "CRASH"
    if not same:
        print("TEMPLATE", repr(template), "\n  want", want, "\n  got ", got)
    elif verbose and "error" in want:
        print(repr(template)[:70], "\n    ", want["error"][:110], "\n    ", got["error"][:110])
    return same, want


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--main", required=True)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--count", type=int, default=2000)
    ap.add_argument("--errors", action="store_true", help="show the sentences of faults side by side")
    ap.add_argument("--record")
    a = ap.parse_args()
    warnings.simplefilter("ignore")
    engine, wrong, cases, rendered = Engine(a.main), 0, [], 0
    wrong += families(engine)
    for i, template in enumerate(FIXED):
        same, want = compare(engine, template, a.errors)
        wrong += not same
        if not ADDRESS.search(want.get("output", "")) and "strftime" not in template:
            cases.append(dict(name=f"fixed-{i}", template=template, **want))
    for i in range(a.count):
        template = Maker(a.seed * 1000003 + i).template()
        same, want = compare(engine, template, False)
        wrong += not same
        rendered += "output" in want
        if len(cases) < len(FIXED) + 150 and "output" in want and len(want["output"]) < 2000 and not ADDRESS.search(want["output"]):
            cases.append(dict(name=f"random-{a.seed}-{i}", template=template, **want))
    print(f"{len(FIXED)} fixed and {a.count} random templates ({rendered} of them render), {wrong} differ")
    if a.record and not wrong:
        with open(a.record, "w") as f:
            json.dump({"context": CONTEXT, "cases": cases}, f, ensure_ascii=False, indent=1)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
