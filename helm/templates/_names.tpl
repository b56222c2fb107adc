{{/* Names, labels and images. */}}

{{- define "gsi.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 36 | trimSuffix "-" }}
{{- end }}

{{/* At most 36 letters: a StatefulSet's name, such as "…-target-0a1b2", may have 52, since a label of its pods adds a hash. */}}
{{- define "gsi.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 36 | trimSuffix "-" }}
{{- else if contains (include "gsi.name" .) .Release.Name -}}
{{ .Release.Name | trunc 36 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "gsi.name" .) | trunc 36 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The queue: what the value says; else the one that the release's coordinators have, so that an upgrade leaves no job behind;
else the release's name, so that two releases on one Redis have two queues. */}}
{{- define "gsi.queue" -}}
{{- if .Values.coordinator.queue -}}
{{ .Values.coordinator.queue }}
{{- else -}}
{{- $live := lookup "apps/v1" "Deployment" .Release.Namespace (printf "%s-coordinator" (include "gsi.fullname" .)) -}}
{{ dig "spec" "template" "metadata" "labels" "gsi/queue" .Release.Name $live }}
{{- end }}
{{- end }}

{{/* Labels that select the pods of a component: dict root component. They never change, since selectors cannot. */}}
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

{{/* Labels of a pod: dict root component extra. The chart's version is not among them: it would restart every pod. */}}
{{- define "gsi.podLabels" -}}
{{ include "gsi.selectorLabels" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image by digest or tag: dict root image. A registry for all images stands before names without one of their own. */}}
{{- define "gsi.image" -}}
{{- $repository := .image.repository -}}
{{- $registry := dig "imageRegistry" "" (default dict .root.Values.global) -}}
{{- if and $registry (not (regexMatch "^([^/]*[.:][^/]*|localhost)/" $repository)) -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" $registry) $repository -}}
{{- end -}}
{{- if .image.digest -}}
{{ $repository }}@{{ .image.digest }}
{{- else -}}
{{ $repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end }}
{{- end }}

{{/* The address of a model service: dict root role. A pod's DNS search domains complete it in any cluster. */}}
{{- define "gsi.address" -}}
{{ include "gsi.fullname" .root }}-{{ .role }}.{{ .root.Release.Namespace }}.svc:50051
{{- end }}
