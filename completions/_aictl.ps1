# PowerShell completion for aictl
$env:COMPLETE = "powershell"; aictl | Out-String | Invoke-Expression; Remove-Item Env:\COMPLETE
