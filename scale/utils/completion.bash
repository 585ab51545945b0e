# Completion of the command `scale` in bash: eval "$(scale --completion)". In zsh: autoload -U bashcompinit; bashcompinit.
_scale() {
  local command=${COMP_WORDS[1]} word=${COMP_WORDS[COMP_CWORD]} line=$COMP_LINE choices
  if [ "$COMP_CWORD" -le 1 ]; then
    COMPREPLY=($(compgen -W "{commands} --help --completion" -- "$word"))
    return
  fi
  case $command in
    report | serve) COMPREPLY=($(compgen -f -- "$word")) && return ;;
    tune | describe | benchmark) command=train ;; # take the groups and keys of train
  esac
  choices=$(COMP_LINE="scale ${line#*scale * }" scale "$command" -sc query=bash 2>/dev/null)
  COMPREPLY=($(compgen -W "$choices" -- "$word"))
  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$word"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -F _scale scale
