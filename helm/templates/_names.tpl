{{/* Names, labels and images. */}}

{{- define "gsi.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 36 | trimSuffix "-" }}
{{- end }}

{{/* A StatefulSet's name, such as "…-target-0a1b2", has 52 letters at most: its pods have a label with it and a hash. */}}
{{- define "gsi.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 36 | trimSuffix "-" }}
{{- else if contains (include "gsi.name" .) .Release.Name -}}
{{ .Release.Name | trunc 36 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "gsi.name" .) | trunc 36 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What tells the pods of one component: dict root component. It never changes, since selectors cannot. */}}
{{- define "gsi.selectorLabels" -}}
app.kubernetes.io/name: {{ include "gsi.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of an object: dict root component. */}}
{{- define "gsi.labels" -}}
{{ include "gsi.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_") }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of a pod: dict root component extra. The chart's version is left out: it would restart every pod. */}}
{{- define "gsi.podLabels" -}}
{{ include "gsi.selectorLabels" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The image by digest or tag: dict root image. */}}
{{- define "gsi.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end }}
{{- end }}

{{/* The address of a model service: dict root role. The search domains of a pod complete it in any cluster. */}}
{{- define "gsi.address" -}}
{{ include "gsi.fullname" .root }}-{{ .role }}.{{ .root.Release.Namespace }}.svc:50051
{{- end }}
