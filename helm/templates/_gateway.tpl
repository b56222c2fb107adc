{{/* What several objects of the gateway share. */}}

{{- define "gsi.hasHttps" -}}
{{- if and .Values.tls.enabled .Values.gateway.https }}yes{{ end }}
{{- end }}

{{- define "gsi.gatewayScheme" -}}
{{ ternary "https" "http" (ne (include "gsi.hasHttps" .) "") }}
{{- end }}

{{/* The address of the gateway's Service within the cluster. */}}
{{- define "gsi.gatewayUrl" -}}
{{ include "gsi.gatewayScheme" . }}://{{ include "gsi.fullname" . }}-gateway.{{ .Release.Namespace }}.svc:{{ .Values.gateway.service.port }}
{{- end }}

{{/* The claim of files and batches; empty: none. */}}
{{- define "gsi.gatewayClaim" -}}
{{- $files := .Values.gateway.files -}}
{{- if $files.existingClaim }}{{ $files.existingClaim }}{{ else if $files.claim.enabled }}{{ include "gsi.fullname" . }}-files{{ end }}
{{- end }}

{{/* The setting FILES; empty: neither files nor batches. */}}
{{- define "gsi.gatewayFiles" -}}
{{- if .Values.gateway.files.url }}{{ .Values.gateway.files.url }}{{ else if include "gsi.gatewayClaim" . }}/files{{ end }}
{{- end }}

{{/* The file of presets; empty: the built-in ones. With another likelihood or temperature than a job's defaults the built-in
presets are written out with them, since vLLM engines refuse jobs that ask for others. */}}
{{- define "gsi.presets" -}}
{{- $sampling := .Values.sampling -}}
{{- if .Values.gateway.presets -}}
{{ .Values.gateway.presets }}
{{- else if or (ne (float64 $sampling.temperature) 0.7) (ne $sampling.likelihood "sampling") -}}
{{- $methods := list "gsi" "gsi-no-rejection" "rsd" "best-of-n" "majority-vote" "target" "draft" -}}
{{- range $method := $methods }}
[models.{{ ternary "gsi" (printf "gsi:%s" (trimPrefix "gsi-" $method)) (eq $method "gsi") | quote }}]
params = { method = {{ $method | quote }}, temperature = {{ $sampling.temperature }}, likelihood = {{ $sampling.likelihood | quote }} }
{{ end }}
{{- end }}
{{- end }}
