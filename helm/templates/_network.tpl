{{/* Rules that several NetworkPolicies share. */}}

{{- define "gsi.dnsEgress" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{- define "gsi.commonEgress" -}}
{{ include "gsi.dnsEgress" . }}
{{- with .Values.tracing.endpoint }}
# Traces.
- ports:
    - {protocol: TCP, port: {{ (urlParse .).host | splitList ":" | last | int }}}
{{- end }}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "gsi.metricsIngress" -}}
{{- with .Values.networkPolicy.metricsFrom -}}
- from:
    {{- toYaml . | nindent 4 }}
  ports:
    - {protocol: TCP, port: 9464}
{{- end }}
{{- end }}

{{/* To Redis, built in or external. */}}
{{- define "gsi.redisEgress" -}}
{{- if .Values.redis.builtIn.enabled -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "gsi.selectorLabels" (dict "root" . "component" "redis") | nindent 10 }}
  ports:
    - {protocol: TCP, port: 6379}
{{- else -}}
- ports:
    {{- range .Values.networkPolicy.externalRedisPorts }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .Values.networkPolicy.externalRedisTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
