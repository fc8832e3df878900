"""What coding costs: grows with what is asked for."""

from __future__ import annotations

from hearth.compiler.quantize.cost import coding_cost
from hearth.compiler.quantize.schemes import parse_methods, parse_scheme


def test_more_work_costs_more() -> None:
    scheme = parse_scheme("int4_g32")
    names = ("rtn", "importance", "gptq", "gptq,lwc")
    costs = [coding_cost(scheme, parse_methods(name), (1536, 8960), 2) for name in names]
    assert [cost.seconds for cost in costs] == sorted(cost.seconds for cost in costs)
    assert [cost.nbytes for cost in costs] == sorted(cost.nbytes for cost in costs)
    assert costs[-1].nbytes < 2.5e9
    assert costs[-1].seconds < 60
    alone = coding_cost(scheme, parse_methods("gptq"), (1536, 8960), 1)
    assert alone.seconds == 2 * costs[2].seconds


def test_nothing_is_known_without_a_hessian() -> None:
    scheme = parse_scheme("int8")
    plain = coding_cost(scheme, parse_methods("rtn"), (512, 192), 1, known=False)
    assert coding_cost(scheme, parse_methods("gptq,lwc"), (512, 192), 1, known=False) == plain


def test_a_learned_table_costs_its_rounds() -> None:
    methods = parse_methods("rtn")
    learned, even = (
        coding_cost(parse_scheme(name), methods, (4096, 192), 1)
        for name in ("lut4_g32", "int5_g32")
    )
    assert learned.seconds > even.seconds
