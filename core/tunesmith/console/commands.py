"""Every command: what it is called, where it lives, and what it does, in one line.

Help is printed from this table, so that it imports nothing.
"""

#: name -> ("module:function" below tunesmith.console, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init:init", "Write a recipe that fits the plugins installed here."),
    "data check": ("data_check:check", "Load a recipe's rows and say what became of each."),
    "data show": ("data_show:show", "Print rows; with --mask, the tokens that are trained."),
    "plan": ("plan:plan", "Print what a recipe means here, without running it."),
    "run": ("run:run", "Run a recipe: train, and measure before and after."),
    "resume": ("resume:resume", "Go on with a run that was stopped or killed."),
    "compare": ("compare:compare", "Train several adapters at an equal budget, or put runs beside each other."),
    "find-lr": ("find_lr:find_lr", "Find a learning rate in a few steps at rates that rise."),
    "search": ("search:search", "Try values of a recipe's settings, and keep the best."),
    "runs": ("runs:runs", "List runs: how far they are, what they reached."),
    "evaluate": ("evaluate:evaluate", "Measure a finished run again on its held-out rows."),
    "chat": ("chat:chat", "Talk to a tuned model, or ask it once."),
    "rank": ("rank:rank", "Put answers of several models in order, without knowing whose they are."),
    "export": ("export:export", "Write a run's result in another form, such as one merged model."),
    "combine": ("combine:combine", "Add up adapters of one base by weight."),
    "plugins list": ("plugins_listing:plugins_list", "List every component, and plugins that cannot be used."),
    "plugins show": ("plugins_show:show", "Show a component's settings and their meaning."),
    "plugins check": ("plugins_check:check", "Test a plugin against the contract."),
    "plugins new": ("plugins_new:new", "Write a new plugin package to start from."),
    "plugins enable": ("plugins_switch:enable", "Switch a plugin on again."),
    "plugins disable": ("plugins_switch:disable", "Switch a plugin off; it is not even imported."),
    "doctor": ("doctor:doctor", "Look over this machine, or a run's files."),
    "schema": ("schema:schema", "Print the JSON Schema of a recipe, for editors."),
}

GROUPS: dict[str, str] = {
    "data": "Look at the rows that a recipe trains on.",
    "plugins": "See, test, write and switch the plugins.",
}

#: the order and headings of `tunesmith --help`
SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Prepare", ("init", "data check", "data show", "plan")),
    ("Run", ("run", "resume", "compare", "find-lr", "search", "runs")),
    ("Use the result", ("evaluate", "chat", "rank", "export", "combine")),
    ("Plugins", tuple(name for name in COMMANDS if name.startswith("plugins "))),
    ("Help", ("doctor", "schema")),
)


def children(prefix: str) -> "dict[str, str]":
    """The names directly below a group ("" is the root), with their line of help."""
    found: dict[str, str] = {}
    for name, (_, line) in COMMANDS.items():
        group, _, last = name.rpartition(" ")
        if group == prefix:
            found[last] = line
        elif not prefix and group not in found:
            found[group] = GROUPS[group]
    return found
