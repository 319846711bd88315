"""Man pages and the bash completion, from what the program says of itself: manual.py DIRECTORY PROGRAM...

Writes man1/freshet.1.gz, man1/freshet-run.1.gz, man1/freshet-model-quantize.1.gz, ... into DIRECTORY, and
completions/freshet, which is the first program's. Standard library only.
"""

import dataclasses
import gzip
import pathlib
import re
import shutil
import subprocess
import sys

ENTRY = re.compile(r"  ((?:-\w, *)?--[\w-]+|-\w|[\w-]+)(?: (.*?))??(?:  +(.*))?$")  # names, kind of value, description


@dataclasses.dataclass
class Entry:
    names: list[str]
    value: str
    text: str


@dataclasses.dataclass
class Command:
    words: list[str]  # of its command line
    summary: str
    usage: str
    sections: dict[str, list[Entry]]
    footer: str

    def entries(self, title):
        return self.sections.get(title, [])


def ask(words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def read_help(program, words):
    """What `freshet WORDS --help` says."""
    summary, _, rest = ask([program, *words[1:], "--help"]).partition("\nUsage: ")
    blocks = rest.rstrip().replace(program, words[0]).split("\n\n")
    command = Command(words, summary.strip(), blocks[0].strip(), {}, "")
    for number, block in enumerate(blocks[1:], 1):
        title, _, body = block.lstrip("\n").partition("\n")
        if not title.endswith(":") or title == "Example:":
            command.footer = "\n\n".join(blocks[number:])
            break
        command.sections[title[:-1].capitalize()] = read_entries(body)
    return command


def read_entries(body):
    entries = []
    for line in body.splitlines():
        found = ENTRY.fullmatch(line)
        if found:
            value, text = (found[2] or "").strip(), found[3] or ""
            if " REQUIRED " in value:  # what is as long as the column leaves one blank
                value, _, text = value.partition(" REQUIRED ")
                value += " REQUIRED"
            entries.append(Entry(re.split(", *", found[1]), value, text))
        else:  # the description, or more of it
            entries[-1].text = f"{entries[-1].text} {line.strip()}".strip()
    return entries


def read_commands(program, words=None):
    """The command and those below it, each before its own."""
    words = words or (pathlib.Path(program).name,)
    command = read_help(program, list(words))
    commands = [command]
    for entry in command.entries("Subcommands"):
        commands += read_commands(program, (*words, entry.names[0]))
    return commands


def roff(text):
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return "\n".join(r"\&" + line if line.startswith((".", "'")) else line for line in text.split("\n"))


def roff_entry(entry):
    names = ", ".join(rf"\fB{roff(name)}\fR" for name in entry.names)
    return f".TP\n{names} {roff(entry.value)}".rstrip() + f"\n{roff(entry.text)}\n"


def man_page(command, version):
    name = "-".join(command.words)
    out = [f'.TH {roff(name).upper()} 1 "" "{version}" "freshet"\n']
    out.append(f".SH NAME\n{roff(name)} \\- {roff(command.summary.rstrip('.'))}\n.SH SYNOPSIS\n{roff(command.usage)}\n")
    for title, entries in command.sections.items():
        if title == "Subcommands":
            page = "-".join(command.words)
            entries = [Entry(e.names, "", f"{e.text}. See {page}-{e.names[0]}(1).") for e in entries]
        out.append(f".SH {roff(title).upper()}\n" + "".join(map(roff_entry, entries)))
    if command.footer:
        example, _, rest = command.footer.removeprefix("Example:\n").partition("\n")
        out.append(f".SH EXAMPLE\n.EX\n{roff(example)}\n.EE\n")
        if rest.strip():
            out.append(f".SH NOTES\n{roff(rest.strip())}\n".replace("\n\n", "\n.PP\n"))
    out.append(".SH FILES\n.TP\n/etc/freshet/freshet.yaml\nConfiguration of the service.\n"
               ".TP\n/usr/share/doc/freshet\nThe documents, configuration.md and operations.md among them.\n")  # fmt: skip
    return "".join(out)


def choices(value):
    """{a,b} of TEXT:{a,b}=a."""
    found = re.search(r"\{([\w,-]+)\}", value)
    return found[1].split(",") if found else []


def completion(commands):
    """A table of words for each command, and the function that looks into it."""
    words, values = [], []
    for command in commands:
        path = " ".join(command.words[1:])
        options = [entry for title in command.sections if title not in ("Subcommands", "Positionals")
                   for entry in command.entries(title)]  # fmt: skip
        names = [entry.names[0] for entry in command.entries("Subcommands")]
        names += [name for entry in options for name in entry.names]
        words.append(f'    "{path}") echo "{" ".join(names)}" ;;\n')
        for entry in options:
            offered = " ".join(choices(entry.value)) or ("@files" if entry.value.startswith("TEXT") else "")
            values += [f'    "{path} {name}") echo "{offered}" ;;\n' for name in entry.names if offered]
    return TEMPLATE.replace("WORDS\n", "".join(words)).replace("VALUES\n", "".join(values))


TEMPLATE = """\
# bash completion of freshet, made by deploy/package/manual.py

_freshet_words() {  # commands -> what can come next
  case $1 in
WORDS
  esac
}

_freshet_values() {  # commands and an option -> its values; @files: any file; nothing: none, or a number
  case $1 in
VALUES
  esac
}

_freshet() {
  local current=${COMP_WORDS[COMP_CWORD]} command='' word offered n
  for ((n = 1; n < COMP_CWORD; ++n)); do
    word=${COMP_WORDS[n]}
    [[ $word != -* && -n $(_freshet_words "${command:+$command }$word") ]] && command=${command:+$command }$word
  done
  offered=$(_freshet_values "$command ${COMP_WORDS[COMP_CWORD - 1]}")
  [[ -n $offered ]] || offered=$(_freshet_words "$command")
  if [[ $offered == @files || ($current != -* && $offered == -*) ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
    compopt -o filenames 2>/dev/null
  else
    mapfile -t COMPREPLY < <(compgen -W "$offered" -- "$current")
  fi
}

complete -F _freshet freshet
"""


def main(directory, *programs):
    pages, completions = pathlib.Path(directory, "man1"), pathlib.Path(directory, "completions")
    for folder in (pages, completions):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    version = ask([programs[0], "--version"]).strip()
    (completions / "freshet").write_text(completion(read_commands(programs[0])))
    for program in programs:
        for command in read_commands(program):
            page = gzip.compress(man_page(command, version).encode(), mtime=0)  # the same bytes from the same program
            (pages / ("-".join(command.words) + ".1.gz")).write_bytes(page)


if __name__ == "__main__":
    main(*sys.argv[1:])
