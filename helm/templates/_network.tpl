{{/* Rules that several NetworkPolicies share. */}}

{{/* Egress of every pod but Redis: to the cluster's DNS and to what the values name. */}}
{{- define "gsi.commonEgress" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Egress of coordinators and models. */}}
{{- define "gsi.serviceEgress" -}}
{{ include "gsi.commonEgress" . }}
{{- with .Values.tracing.endpoint }}
# Traces.
- ports:
    - {protocol: TCP, port: {{ (urlParse .).host | splitList ":" | last | int }}}
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

{{/* Egress to Redis, built-in or external. */}}
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

{{/* Egress to the three models. */}}
{{- define "gsi.modelEgress" -}}
- to:
    - podSelector:
        matchLabels:
          app.kubernetes.io/name: {{ include "gsi.name" . }}
          app.kubernetes.io/instance: {{ .Release.Name | quote }}
        matchExpressions:
          - {key: app.kubernetes.io/component, operator: In, values: [draft, target, prm]}
  ports:
    - {protocol: TCP, port: 50051}
{{- end }}
