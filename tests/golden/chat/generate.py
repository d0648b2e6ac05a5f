# /// script
# requires-python = ">=3.10"
# dependencies = ["transformers==5.23.0", "jinja2==3.1.6"]
# ///
"""Writes cases.json, what transformers makes of chat templates: `uv run generate.py`.

olmo2.jinja is the template of OLMo-2 Instruct (model card, Apache-2.0). The others hold one habit
of templates each.
"""

import json
from pathlib import Path

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).parent
OLMO2 = (HERE / "olmo2.jinja").read_text()
SPECIAL = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}


def turns(*contents, system=None):
    messages = [{"role": "system", "content": system}] if system else []
    roles = ["user", "assistant"]
    return messages + [{"role": roles[i % 2], "content": c} for i, c in enumerate(contents)]


ONE = turns("How are you doing?")
TWO = turns("How are you doing?", "I'm just a computer program. How can I help?")
THREE = turns("1 + 1?", "2", "Sure?", system="You are terse.")
ODD = turns("  <b>\"é\" & 'x'</b>\n", "ab\\c\t😀", "\n")

BLOCKS = """{# a comment #}
{% if messages[0]['role'] == 'system' %}
    {% set system = messages[0]['content'] %}
    {% set rest = messages[1:] %}
{% else %}
    {% set system = none %}
    {% set rest = messages %}
{% endif %}
{{ bos_token }}
  {%- for message in rest %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Roles must alternate: ' ~ message.role) }}
    {% endif %}
{{ '[' + loop.index|string + '/' ~ rest | length ~ ']' }} {{ message.content | trim }}
        {%+ if not loop.last %} |
 {% endif %}
  {% endfor %}
{%- if system is not none and system is defined %} ({{ system }}){% endif %}

"""
LOOPS = """{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{% if loop.index > 3 %}{% break %}{% endif %}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{{ m.content[:3] }};{% endfor %}{% for m in messages[::-1] %}{{ m['role'][0] }}{% endfor %}"""
STRINGS = """{% for m in messages %}{{ m.content.strip().split(' ')[-1].upper() }},{{ m.role.title() }},{{ m.content.startswith('How') }},{{ m.content.replace('o', '0') | length }},{{ m.content.lstrip('H').rstrip('?') }},{{ m.get('name', 'nobody') }},{{ 'role' in m }},{{ m.items() | list | length }};{% endfor %}"""
JSON = """{{ messages | tojson }}
{{ messages | tojson(indent=2) }}
{{ messages[0] | tojson(separators=(',', ':')) }} {{ {'b': 1, 'a': [true, none, 1.5, []], 'c': {}} | tojson(sort_keys=true) }}"""
NAMESPACE = """{% set ns = namespace(n=0, last='') %}{% for m in messages %}{% set ns.n = ns.n + m.content | length %}{% set ns.last = m.role %}{% endfor %}{{ ns.n }} {{ ns.last }} {{ ns.n // 2 }} {{ ns.n / 2 }} {{ ns.n % 7 }} {{ -7 // 2 }}"""
MACRO = """{%- macro turn(m, end='') -%}
    {{- '<' ~ m.role ~ '>' ~ m.content ~ end -}}
{%- endmacro -%}
{%- for m in messages -%}
    {{ turn(m, end=eos_token if m.role == 'assistant' else '') }}
{%- endfor -%}"""
TESTS = """{{ tools is none }} {{ documents is defined }} {{ missing is defined }} {{ messages[0].content is string }} {{ messages is iterable }} {{ messages[0] is mapping }} {{ none }} {{ true }} {{ missing }}{{ missing or 'default' }} {{ unk_token | default('none') }} {{ 1.0 }} {{ [1, 'a', none] }} {{ {'a': 1} }}"""
GENERATION = """{% for m in messages %}{% if m.role == 'assistant' %}{%- generation -%} {{ m.content }} {%- endgeneration -%}{% else %}{{ m.content }}
{% endif %}{% endfor %}"""
REFUSES = """{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system prompt, please') }}{% endif %}{{ m.content }}{% endfor %}"""

CASES = [
    ("olmo2 one turn", OLMO2, ONE, True),
    ("olmo2 answered", OLMO2, TWO, False),
    ("olmo2 answered, with a prompt", OLMO2, TWO, True),
    ("olmo2 many turns and a system message", OLMO2, THREE, True),
    ("olmo2 many turns, no prompt", OLMO2, THREE, False),
    ("olmo2 nothing", OLMO2, [], True),
    ("olmo2 odd characters", OLMO2, ODD, True),
    ("olmo2 unknown role", OLMO2, [{"role": "tool", "content": "x"}], True),
    ("blocks", BLOCKS, THREE, True),
    ("blocks without a system message", BLOCKS, ODD, True),
    ("blocks refuse", BLOCKS, THREE[1:][::-1] + ONE + ONE, True),
    ("loop controls", LOOPS, THREE, True),
    ("string methods", STRINGS, TWO, True),
    ("json", JSON, ODD, True),
    ("namespace and numbers", NAMESPACE, THREE, True),
    ("macro", MACRO, THREE, True),
    ("tests and printing", TESTS, ONE, True),
    ("generation tag", GENERATION, TWO, True),
    ("refusal", REFUSES, THREE, True),
    ("no refusal", REFUSES, TWO, True),
]


def case(name, template, messages, prompt):
    result = {"name": name, "template": template, "messages": messages, "prompt": prompt}
    try:
        rendered, _ = render_jinja_template(
            [messages], chat_template=template, add_generation_prompt=prompt, **SPECIAL
        )
        return result | {"text": rendered[0]}
    except jinja2.exceptions.TemplateError as error:
        return result | {"refusal": str(error)}


golden = {"special": SPECIAL, "cases": [case(*c) for c in CASES]}
(HERE / "cases.json").write_text(json.dumps(golden, indent=1) + "\n")
